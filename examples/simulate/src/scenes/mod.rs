//! Guided scenes of the loop: recorded seeds, each with what is seen at which step, and the code
//! that decides it. A stop is found by the words of its step, so a scene whose run no longer shows
//! what its text says is an error.

mod accepting;
mod actor;
mod code;
mod ending;
mod reading;
mod timing;

use std::error::Error;
use std::io;

use waterwheel::sim::{Faults, Replay, Simulation, Tour};

use code::Code;

/// A scene.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What is seen, and why it matters.
    lead: &'static str,
    seed: u64,
    run: fn(&mut Simulation) -> io::Result<()>,
    /// Steps, each by words that are looked for behind the one before, and what is told there.
    stops: &'static [(&'static str, &'static str)],
    /// What holds of the whole run beside its stops.
    holds: fn(&Replay<'_>) -> bool,
    code: &'static [Code],
    exercise: &'static str,
}

/// All scenes, in the order in which they explain each other.
pub(crate) const ALL: [&Scene; 14] = [
    &accepting::STORM,
    &reading::EDGE,
    &reading::SHORT_READ,
    &reading::BACKPRESSURE,
    &ending::HALF_CLOSE,
    &ending::RESET,
    &timing::IDLE,
    &timing::CASCADE,
    &accepting::NO_FILES,
    &reading::FLOOD,
    &timing::STALE_ID,
    &ending::DRAIN,
    &accepting::OVERFLOW,
    &ending::FOUR_WAY,
];

impl Scene {
    /// Runs it, and keeps each step.
    pub(crate) fn run(&self) -> io::Result<Simulation> {
        let mut sim = Simulation::new(self.seed, Faults::none());
        sim.keep_replay();
        (self.run)(&mut sim)?;
        Ok(sim)
    }

    /// The tour through a run of it. An error if the run does not show what the text says.
    pub(crate) fn tour(&self, replay: &Replay<'_>) -> Result<Tour, Box<dyn Error>> {
        let mut tour = Tour::new(format!("Scene: {}", self.title), self.lead);
        let mut from = 0;
        for (words, text) in self.stops {
            let step = replay.find(from, words).ok_or_else(|| {
                format!("{}: no step behind {from} has the words {words:?}", self.name)
            })?;
            tour = tour.stop(step, *text);
            from = step + 1;
        }
        if !(self.holds)(replay) {
            return Err(format!("{}: the run is not what its text says", self.name).into());
        }
        for code in self.code {
            for (place, text) in code.excerpts()? {
                tour = tour.code(place, text);
            }
        }
        Ok(tour.exercise(self.exercise))
    }
}
