//! From a method and a path to a handler.

use std::fmt;

use super::method::{Method, ROUTABLE};
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
    calls: [Option<Call<A>>; ROUTABLE.len()],
    any: Option<Call<A>>,
    pub(super) max_body_bytes: Option<u64>,
    /// Which functions come before, by their places in the router.
    before: Vec<u16>,
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
        let calls = [const { None }; ROUTABLE.len()];
        Self { calls, any: None, max_body_bytes: None, before: Vec::new() }
    }

    /// The handler of a method. It takes the place of one that was there.
    ///
    /// # Panics
    /// If the method is CONNECT or TRACE, which no route takes.
    #[must_use]
    pub fn on(
        mut self,
        method: Method,
        call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static,
    ) -> Self {
        let Some(place) = place_of(method) else { panic!("no route takes {method}") };
        self.calls[place] = Some(Box::new(call));
        self
    }

    /// The handler of all methods that have none of their own.
    #[must_use]
    pub fn any(
        mut self,
        call: impl FnMut(&mut A, &Request<'_>, &mut Response<'_, A>) + 'static,
    ) -> Self {
        self.any = Some(Box::new(call));
        self
    }

    /// The largest body of a request for this path, in bytes. Default that of
    /// [`Options::max_body_bytes`](super::Options::max_body_bytes).
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.max_body_bytes = Some(bytes);
        self
    }

    /// The handler for a method.
    #[inline]
    fn find(&mut self, method: Method) -> Option<&mut Call<A>> {
        let own = place_of(method)?;
        let place = match (method, &self.calls[own]) {
            (Method::Head, None) => 0, // that of GET
            _ => own,
        };
        self.calls[place].as_mut().or(self.any.as_mut())
    }

    /// The methods that have a handler, as `Allow` lists them.
    fn allowed(&self) -> String {
        let mut names = Vec::new();
        for (call, method) in self.calls.iter().zip(ROUTABLE) {
            let is_implied =
                method == Method::Options || method == Method::Head && self.calls[0].is_some();
            if call.is_some() || is_implied || self.any.is_some() {
                names.push(method.name());
            }
        }
        names.join(", ")
    }

    /// Takes the handlers of another one of the same path.
    fn merge(&mut self, other: Self) {
        for (call, new) in self.calls.iter_mut().zip(other.calls) {
            if new.is_some() {
                *call = new;
            }
        }
        self.any = other.any.or(self.any.take());
        self.max_body_bytes = other.max_body_bytes.or(self.max_body_bytes);
        self.before.extend(other.before);
    }
}

/// Where the handler of a method is.
#[inline]
fn place_of(method: Method) -> Option<usize> {
    let place = method as usize;
    (place < ROUTABLE.len()).then_some(place)
}

/// Routes: from a method and a path to a handler.
///
/// A path may have places: `{name}` for a segment or a part of one, `{*name}` for the rest. A path
/// without places goes before one with them. The path of a request is matched with its escapes
/// decoded and its dot segments removed; an escaped slash is `%2F` still, and no separator.
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
    /// From a path to a place in `routes`.
    tree: matchit::Router<u32>,
    routes: Vec<Route<A>>,
    /// The path of each.
    paths: Vec<String>,
    before: Vec<Before<A>>,
    /// Places in `before` of what comes before all routes.
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
    /// If the path does not begin with a slash, has a malformed place, or cannot be told from
    /// another one, as `/{a}` and `/{b}`.
    #[must_use]
    pub fn route(mut self, path: &str, route: Route<A>) -> Self {
        self.add(path, route);
        self
    }

    fn add(&mut self, path: &str, route: Route<A>) {
        assert!(path.starts_with('/'), "the path of a route begins with a slash: {path:?}");
        if let Some(place) = self.paths.iter().position(|known| known == path) {
            return self.routes[place].merge(route);
        }
        if let Err(error) = self.tree.insert(path, self.routes.len() as u32) {
            panic!("the route {path:?} cannot be added: {error}");
        }
        self.routes.push(route);
        self.paths.push(path.to_owned());
    }

    /// Has a function called before each handler of this router, whichever was added first, and of
    /// those nested in it. Of several, in the order in which they were added. It may answer, and
    /// then says [`Next::Done`].
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
    /// # Panics
    /// As [`route`](Self::route).
    #[must_use]
    pub fn nest(mut self, path: &str, router: Self) -> Self {
        let path = path.trim_end_matches('/');
        let offset = self.before.len() as u16;
        self.before.extend(router.before);
        for (below, mut route) in router.paths.iter().zip(router.routes) {
            let nested = router.own.iter().chain(&route.before).map(|place| place + offset);
            route.before = nested.collect();
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
    /// The path without places that was found last, and the place of its route: the next request
    /// is likely to have the same.
    last: (String, usize),
}

/// A route that was found.
pub(super) struct Found<'a, A> {
    pub(super) route: &'a mut Route<A>,
    pub(super) before: &'a mut [Before<A>],
    /// What of the path stands for the places of the route.
    pub(super) params: Option<matchit::Params<'a, 'a>>,
}

impl<A: 'static> Routes<A> {
    pub(super) fn new(mut router: Router<A>) -> Self {
        for route in router.routes.iter_mut().chain(&mut router.fallback) {
            route.before.splice(..0, router.own.iter().copied());
        }
        Self { router, last: Default::default() }
    }

    #[inline]
    pub(super) fn find<'a>(&'a mut self, path: &'a str) -> Option<Found<'a, A>> {
        let Router { tree, routes, before, fallback, .. } = &mut self.router;
        if path == self.last.0 {
            let route = routes.get_mut(self.last.1)?;
            return Some(Found { route, before, params: None });
        }
        if let Ok(found) = tree.at(path) {
            let place = *found.value as usize;
            if found.params.is_empty() {
                self.last.0.clear();
                self.last.0.push_str(path);
                self.last.1 = place;
            }
            if let Some(route) = routes.get_mut(place) {
                return Some(Found { route, before, params: Some(found.params) });
            }
        }
        fallback.as_mut().map(|route| Found { route, before, params: None })
    }
}

/// Calls what comes before, and the handler.
#[inline]
pub(super) fn call<A: 'static>(
    route: &mut Route<A>,
    before: &mut [Before<A>],
    app: &mut A,
    req: &Request<'_>,
    res: &mut Response<'_, A>,
) {
    for &place in &route.before {
        if before[usize::from(place)](app, req, res) == Next::Done {
            return;
        }
    }
    match route.find(req.method()) {
        Some(call) => call(app, req, res),
        None => refuse_method(&route.allowed(), req.method(), res),
    }
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
