//! What follows a panic of code that is the user's.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a panic carries. The program made it, so its `Drop` may panic in turn.
pub(crate) type PanicPayload = Box<dyn Any + Send>;

/// Runs what is the user's; a panic is an error. The only `catch_unwind` of the library, so that
/// each caller must say what becomes of the payload.
///
/// Callers must not look again at what `run` may have left half done.
#[inline]
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, PanicPayload> {
    catch_unwind(AssertUnwindSafe(run))
}

/// What a panic says.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

/// Drops what is the user's, whatever its `Drop` does.
pub(crate) fn drop_quietly<T>(value: T) {
    run_quietly(|| drop(value));
}

/// Runs a `Drop` that is the user's; whether it has not panicked.
pub(crate) fn run_quietly(run: impl FnOnce()) -> bool {
    let Err(payload) = catch(run) else { return true };
    // Its own `Drop` may panic in turn, and so for ever.
    mem::forget(payload);
    false
}

/// What a panic says, once its payload has been dropped.
pub(crate) fn into_text(payload: PanicPayload) -> String {
    let text = text_of(&*payload).to_owned();
    drop_quietly(payload);
    text
}

#[cfg(test)]
mod tests {
    use std::panic::{panic_any, resume_unwind};

    use super::*;

    /// Panics when it is dropped, with another of its kind.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                resume_unwind(Box::new(Bomb(self.0 - 1)));
            }
        }
    }

    #[test]
    fn a_panic_is_an_error_with_its_text() {
        assert_eq!(catch(|| 7).unwrap(), 7);
        let said = catch(|| -> () { resume_unwind(Box::new("as a literal")) }).unwrap_err();
        assert_eq!(into_text(said), "as a literal");
        let said = catch(|| -> () { resume_unwind(Box::new(format!("as {}", 1))) }).unwrap_err();
        assert_eq!(text_of(&*said), "as 1");
        let said = catch(|| -> () { panic_any(5) }).unwrap_err();
        assert_eq!(into_text(said), "no text");
    }

    #[test]
    fn what_panics_when_it_is_dropped_ends_there() {
        drop_quietly(Bomb(1));
        assert!(run_quietly(|| {}));
        assert!(!run_quietly(|| drop(Bomb(1))));
        let thrown = catch(|| -> () { resume_unwind(Box::new(Bomb(1))) }).unwrap_err();
        assert_eq!(into_text(thrown), "no text");
    }
}
