//! A limit that somebody set.

use super::{Act, Controller, Seen};

/// Admits at most so many requests a second, the most important first, whatever the server does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed(pub(crate) f64);

impl Controller for Fixed {
    fn turn(&mut self, _: &Seen<'_>) -> Act {
        Act::Rate(self.0)
    }
}
