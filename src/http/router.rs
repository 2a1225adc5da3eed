//! From a method and a path to a handler.

use std::fmt;

use super::head::Head;
use super::method::{Method, ROUTABLE};
use super::params::{LastPath, Values};
use super::request::Request;
use super::response::Response;

/// A handler of requests.
type Call<A> = Box<dyn FnMut(&mut A, &Request<'_>, &mut Response<'_, A>)>;

/// A function that comes before the handlers.
type Before<A> = Box<dyn FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) -> Next>;

/// What follows a function of [`Router::before`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Next {
    /// The next one, and then the handler.
    Go,
    /// Nothing: it has answered, or will.
    Done,
}

/// The handlers of one path, by method.
///
/// HEAD goes to the handler of GET unless it has its own, and the body of the answer is left out.
/// OPTIONS is answered with the methods of the path. TRACE is never answered with what was sent.
///
/// # Examples
/// ```
/// use waterwheel::http::{Route, Router};
/// let uploads: Route<()> = Route::new()
///     .get(|_, _, res| res.text("send me something\n"))
///     .post(|_, _, res| res.collect(1 << 30, |_, body, res| {
///         res.text(&body.len().to_string());
///     }))
///     .max_body_bytes(1 << 30);
/// let routes = Router::new().route("/upload", uploads);
/// # let _ = routes;
/// ```
pub struct Route<A> {
    /// By the index of the method; the last is for methods that have no handler of their own.
    calls: [Option<Handler<A>>; ROUTABLE.len() + 1],
    /// What holds for its handlers: those of a router that is nested have their own.
    ///
    /// Invariant: never empty.
    rules: Vec<Rules>,
}

/// The index of the handler of all methods.
const ANY: usize = ROUTABLE.len();

/// A handler of requests, and the index of the rules that hold for it.
struct Handler<A> {
    call: Call<A>,
    rules: usize,
}

/// What holds for the handlers that one router has for a path.
#[derive(Default)]
struct Rules {
    /// Which functions come before, by their indices in the router.
    before: Vec<u16>,
    max_body_bytes: Option<u64>,
}

/// Methods that add a handler for the method of their name.
macro_rules! methods {
    ($($name:ident $method:ident),*) => {
        impl<A> Route<A> { $(
            #[doc = concat!("The handler of ", stringify!($method), ".")]
            #[must_use]
            pub fn $name(
                self,
                call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static,
            ) -> Self {
                self.on(Method::$method, call)
            }
        )* }

        impl<A> Router<A> { $(
            #[doc = concat!("The handler of ", stringify!($method), " for a path. See ",
                "[`route`](Self::route).")]
            ///
            /// # Panics
            /// As [`route`](Self::route).
            #[must_use]
            pub fn $name(
                self,
                path: &str,
                call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static,
            ) -> Self {
                self.route(path, Route::new().$name(call))
            }
        )* }
    };
}

methods! { get Get, head Head, post Post, put Put, delete Delete, options Options, patch Patch }

impl<A> Default for Route<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> Route<A> {
    /// Without handlers.
    #[must_use]
    pub fn new() -> Self {
        Self { calls: [const { None }; ROUTABLE.len() + 1], rules: vec![Rules::default()] }
    }

    /// The handler of a method, in place of one that was there.
    ///
    /// # Panics
    /// If the method is CONNECT or TRACE, which no route takes.
    #[must_use]
    pub fn on(
        mut self,
        method: Method,
        call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static,
    ) -> Self {
        let Some(index) = index_of(method) else { panic!("no route takes {method}") };
        self.calls[index] = Some(Handler { call: Box::new(call), rules: 0 });
        self
    }

    /// The handler of all methods that have no handler of their own.
    #[must_use]
    pub fn any(
        mut self,
        call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static,
    ) -> Self {
        self.calls[ANY] = Some(Handler { call: Box::new(call), rules: 0 });
        self
    }

    /// The largest body of a request for this path, in bytes, whichever method it has. Default
    /// that of [`Options::max_body_bytes`](super::Options::max_body_bytes).
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.rules[0].max_body_bytes = Some(bytes);
        self
    }

    /// The index of the handler for a method.
    #[inline]
    fn handler_for(&self, method: Method) -> Option<usize> {
        let own = index_of(method)?;
        let index = match (method, &self.calls[own]) {
            (Method::Head, None) => 0, // that of GET
            _ => own,
        };
        let index = if self.calls[index].is_some() { index } else { ANY };
        self.calls[index].is_some().then_some(index)
    }

    /// The rules for the handler with this index.
    #[inline]
    fn rules_of(&self, handler: Option<usize>) -> &Rules {
        let handler = handler.and_then(|index| self.calls[index].as_ref());
        &self.rules[handler.map_or(0, |handler| handler.rules)]
    }

    /// The methods that have a handler, as `Allow` lists them.
    fn allowed(&self) -> String {
        let mut names = Vec::new();
        for (call, method) in self.calls.iter().zip(ROUTABLE) {
            let is_implied =
                method == Method::Options || method == Method::Head && self.calls[0].is_some();
            if call.is_some() || is_implied || self.calls[ANY].is_some() {
                names.push(method.name());
            }
        }
        names.join(", ")
    }

    /// Takes the handlers of another one of the same path. What comes before those of one router
    /// does not come before those of another.
    fn merge(&mut self, other: Self) {
        let indices: Vec<usize> = other.rules.into_iter().map(|new| self.add_rules(new)).collect();
        for (call, new) in self.calls.iter_mut().zip(other.calls) {
            if let Some(Handler { call: new, rules }) = new {
                *call = Some(Handler { call: new, rules: indices[rules] });
            }
        }
    }

    /// Adds rules and returns their index. Where the same comes before, the limit is one for the
    /// path.
    fn add_rules(&mut self, new: Rules) -> usize {
        let known = self.rules.iter().position(|rules| rules.before == new.before);
        let Some(index) = known else {
            self.rules.push(new);
            return self.rules.len() - 1;
        };
        let rules = &mut self.rules[index];
        rules.max_body_bytes = new.max_body_bytes.or(rules.max_body_bytes);
        index
    }

    /// Has functions come before all others.
    fn put_before(&mut self, functions: &[u16]) {
        for rules in &mut self.rules {
            rules.before.splice(..0, functions.iter().copied());
        }
    }
}

/// The index of a method's own handler.
#[inline]
fn index_of(method: Method) -> Option<usize> {
    let index = method as usize;
    (index < ROUTABLE.len()).then_some(index)
}

/// Routes: from a method and a path to a handler.
///
/// A path may have parameters: `{name}` for a segment or a part of one, `{*name}` for the rest. A
/// path without parameters goes before one with them. The path of a request is matched with its
/// escapes decoded and its dot segments removed; an escaped slash is `%2F` still, and no separator.
///
/// # Examples
/// ```
/// use waterwheel::http::{Next, Router};
///
/// let api = Router::new()
///     .before(|_, req, res| {
///         if req.header("authorization") == Some("Bearer let-me-in") {
///             return Next::Go;
///         }
///         res.status(401).header("WWW-Authenticate", "Bearer").empty();
///         Next::Done
///     })
///     .get("/user/{id}", |_, req, res| res.text(req.param("id")));
/// let routes: Router<()> = Router::new()
///     .get("/", |_, _, res| res.text("hello\n"))
///     .nest("/api", api);
/// # let _ = routes;
/// ```
pub struct Router<A> {
    /// From a path to an index in `routes`.
    tree: matchit::Router<u32>,
    routes: Vec<Route<A>>,
    /// The path of each.
    paths: Vec<String>,
    before: Vec<Before<A>>,
    /// Indices in `before` of what comes before all routes.
    own: Vec<u16>,
    fallback: Option<Route<A>>,
}

impl<A> Default for Router<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> Router<A> {
    /// Without routes: every request is answered 404.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tree: matchit::Router::new(),
            routes: Vec::new(),
            paths: Vec::new(),
            before: Vec::new(),
            own: Vec::new(),
            fallback: None,
        }
    }

    /// Adds the handlers of a path to those that it has.
    ///
    /// # Panics
    /// If the path does not begin with a slash, has a malformed parameter, or conflicts with
    /// another one, as `/{a}` and `/{b}` do.
    #[must_use]
    pub fn route(mut self, path: &str, route: Route<A>) -> Self {
        self.add(path, route);
        self
    }

    fn add(&mut self, path: &str, route: Route<A>) {
        assert!(path.starts_with('/'), "the path of a route begins with a slash: {path:?}");
        if let Some(index) = self.paths.iter().position(|known| known == path) {
            return self.routes[index].merge(route);
        }
        if let Err(error) = self.tree.insert(path, self.routes.len() as u32) {
            panic!("the route {path:?} cannot be added: {error}");
        }
        if path.contains("/:") || path.contains("/*") {
            log::warn!(
                "the route {path:?}: \":name\" and \"*\" match themselves only; write {{name}}, or \
                 {{*name}} for the rest of the path"
            );
        }
        self.routes.push(route);
        self.paths.push(path.to_owned());
    }

    /// Adds a function that is called before each handler of this router and of the routers nested
    /// in it, also before handlers that were added earlier. Several functions are called in the
    /// order in which they were added. A function that has answered, or called [`Response::later`],
    /// returns [`Next::Done`].
    #[must_use]
    pub fn before(
        mut self,
        call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) -> Next + 'static,
    ) -> Self {
        self.own.push(self.before.len() as u16);
        self.before.push(Box::new(call));
        self
    }

    /// Adds the routes of another router below a path. Its [`fallback`](Self::fallback) is left
    /// out.
    ///
    /// Both routers may have handlers for one path, for different methods. If both have a handler
    /// for one method, the one that was added last is called. The functions
    /// [`before`](Self::before) of a nested router, and the largest bodies of its routes, hold for
    /// its own handlers alone. For a method without a handler the functions of all these routers
    /// are called, and then it is refused.
    ///
    /// # Panics
    /// As [`route`](Self::route).
    #[must_use]
    pub fn nest(mut self, path: &str, router: Self) -> Self {
        let path = path.trim_end_matches('/');
        let offset = self.before.len() as u16;
        self.before.extend(router.before);
        for (below, mut route) in router.paths.iter().zip(router.routes) {
            route.put_before(&router.own);
            for function in route.rules.iter_mut().flat_map(|rules| &mut rules.before) {
                *function += offset;
            }
            self.add(&format!("{path}{below}"), route);
        }
        self
    }

    /// The handlers of all paths that have no route. Default: 404.
    #[must_use]
    pub fn fallback(mut self, route: Route<A>) -> Self {
        self.fallback = Some(route);
        self
    }
}

/// A router that is complete.
pub(super) struct Routes<A> {
    router: Router<A>,
    last: LastPath,
}

/// A route that was found.
pub(super) struct Found<'a, A> {
    route: &'a mut Route<A>,
    /// The index of its handler for the method.
    handler: Option<usize>,
    before: &'a mut [Before<A>],
    /// The values of the parameters of the route.
    values: Values<'a>,
}

impl<'a, A: 'static> Found<'a, A> {
    #[inline]
    fn new(
        (route, before): (&'a mut Route<A>, &'a mut [Before<A>]),
        method: Method,
        values: Values<'a>,
    ) -> Self {
        Self { handler: route.handler_for(method), route, before, values }
    }

    /// Calls what comes before, and the handler.
    #[inline]
    pub(super) fn call(
        &mut self,
        app: &mut A,
        (head, path): (&Head<'_>, &str),
        res: &mut Response<'_, A>,
    ) {
        let Self { route, handler, before, values } = self;
        let req = &Request::new(head, path, values);
        let Some(index) = *handler else {
            return call_without_handler(route, before, app, req, res);
        };
        for &function in &route.rules_of(Some(index)).before {
            if before[usize::from(function)](app, req, res) == Next::Done {
                return;
            }
        }
        if let Some(handler) = &mut route.calls[index] {
            (handler.call)(app, req, res);
        }
    }

    /// The largest body of a request, if the route says so.
    #[inline]
    pub(super) fn max_body_bytes(&self) -> Option<u64> {
        self.route.rules_of(self.handler).max_body_bytes
    }
}

impl<A: 'static> Routes<A> {
    pub(super) fn new(mut router: Router<A>) -> Self {
        for route in router.routes.iter_mut().chain(&mut router.fallback) {
            route.put_before(&router.own);
        }
        Self { router, last: Default::default() }
    }

    #[inline]
    pub(super) fn find<'a>(&'a mut self, method: Method, path: &'a str) -> Option<Found<'a, A>> {
        let Router { tree, routes, before, fallback, .. } = &mut self.router;
        if self.last.is(path) {
            let (index, values) = self.last.found();
            let route = routes.get_mut(index)?;
            return Some(Found::new((route, before), method, values));
        }
        if let Ok(found) = tree.at(path) {
            let index = *found.value as usize;
            self.last.note(path, index, &found.params);
            if let Some(route) = routes.get_mut(index) {
                let values = Values::Found(found.params);
                return Some(Found::new((route, before), method, values));
            }
        }
        fallback.as_mut().map(|route| Found::new((route, before), method, Values::NONE))
    }
}

/// Calls each function that comes before any handler of the path, and refuses the method.
#[cold]
fn call_without_handler<A: 'static>(
    route: &Route<A>,
    before: &mut [Before<A>],
    app: &mut A,
    req: &Request<'_>,
    res: &mut Response<'_, A>,
) {
    let mut called: Vec<u16> = Vec::new();
    for &function in route.rules.iter().flat_map(|rules| &rules.before) {
        if called.contains(&function) {
            continue;
        }
        if before[usize::from(function)](app, req, res) == Next::Done {
            return;
        }
        called.push(function);
    }
    refuse_method(&route.allowed(), req.method(), res);
}

/// The answer of a path that has no handler for a method.
#[cold]
fn refuse_method<A: 'static>(allowed: &str, method: Method, res: &mut Response<'_, A>) {
    res.header("Allow", allowed);
    if method == Method::Options {
        res.status(204).empty();
    } else {
        res.status(405).text("the resource does not take this method\n");
    }
}

impl<A> fmt::Debug for Route<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&self.allowed()).finish()
    }
}

impl<A> fmt::Debug for Router<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.paths.iter().zip(&self.routes)).finish()
    }
}
