//! A handler that takes messages, and a reactor around it that is driven by hand.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use waterwheel::{
    Conn, Context, Handler, HandlerKey, Peer, Reactor, ReactorOptions, Receive, Sender,
};

use crate::support::PATIENCE;

type OnMessage<T> = Box<dyn FnMut(T, &mut Context<'_>)>;

/// Hands each message to a closure, and counts how often it is told that the senders are gone.
pub(crate) struct Taker<T> {
    on_message: OnMessage<T>,
    told: Rc<Cell<u32>>,
    /// Panics when it is told.
    pub(crate) panics_at_end: bool,
}

impl<T> Taker<T> {
    /// One that is not told anything.
    pub(crate) fn silent() -> Self {
        let on_message = Box::new(|_, _: &mut Context<'_>| panic!("a message of another reactor"));
        Self { on_message, told: Rc::default(), panics_at_end: false }
    }
}

impl<T: 'static> Handler for Taker<T> {
    type State = ();

    fn on_accept(&mut self, _: &Peer) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, _: &mut (), conn: &mut Conn<'_>, input: &[u8]) -> usize {
        conn.write(input);
        input.len()
    }
}

impl<T: 'static> Receive<T> for Taker<T> {
    fn on_message(&mut self, message: T, cx: &mut Context<'_>) {
        (self.on_message)(message, cx);
    }

    fn on_senders_gone(&mut self, _: &mut Context<'_>) {
        self.told.set(self.told.get() + 1);
        assert!(!self.panics_at_end, "on purpose");
    }
}

/// A reactor with a taker.
pub(crate) struct Loop<T> {
    pub(crate) reactor: Reactor,
    pub(crate) service: HandlerKey<Taker<T>>,
    told: Rc<Cell<u32>>,
}

impl<T: Send + 'static> Loop<T> {
    pub(crate) fn new(on_message: impl FnMut(T, &mut Context<'_>) + 'static) -> Self {
        Self::with(ReactorOptions::default(), on_message)
    }

    pub(crate) fn with(
        options: ReactorOptions,
        on_message: impl FnMut(T, &mut Context<'_>) + 'static,
    ) -> Self {
        let mut reactor = Reactor::with_options(options).unwrap();
        let told = Rc::default();
        let taker = Taker {
            on_message: Box::new(on_message),
            told: Rc::clone(&told),
            panics_at_end: false,
        };
        let service = reactor.register(taker);
        Self { reactor, service, told }
    }

    pub(crate) fn channel(&mut self, capacity: usize) -> Sender<T> {
        self.reactor.channel(self.service, capacity).unwrap()
    }

    /// How often the handler was told that all senders of a channel are gone.
    pub(crate) fn told(&self) -> u32 {
        self.told.get()
    }

    /// One turn that does not block.
    pub(crate) fn turn(&mut self) {
        self.reactor.run_once(Some(Duration::ZERO)).unwrap();
    }

    /// Turns until `done`. A turn may block for long: what is waited for has to wake it.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            self.reactor.run_once(Some(PATIENCE)).unwrap();
        }
    }
}

/// A loop that keeps what it gets.
pub(crate) fn keeping<T: Send + 'static>(options: ReactorOptions) -> (Loop<T>, Kept<T>) {
    let kept = Kept(Rc::new(RefCell::new(Vec::new())));
    let keeps = Kept(Rc::clone(&kept.0));
    (Loop::with(options, move |message, _| keeps.0.borrow_mut().push(message)), kept)
}

/// What a loop has got.
pub(crate) struct Kept<T>(Rc<RefCell<Vec<T>>>);

impl<T> Kept<T> {
    pub(crate) fn take(&self) -> Vec<T> {
        self.0.take()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}
