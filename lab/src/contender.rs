//! Who takes part.

use crate::rival::Controller;
use crate::rival::aimd::Aimd;
use crate::rival::dagor::Dagor;
use crate::rival::fixed::Fixed;
use crate::rival::gradient::Gradient;

/// Makes a controller, once for each service of a run.
pub(crate) type Make = Box<dyn Fn() -> Box<dyn Controller>>;

/// One way to meet an overload.
pub(crate) enum Contender {
    /// The programs are attached, and shed nothing.
    Nothing,
    /// A controller of the lab's.
    Rival {
        /// As the table shows it.
        name: &'static str,
        /// What decides.
        make: Make,
    },
    /// The release binary's daemon.
    Shedder,
}

/// Every contender's name, in the order of the table.
pub(crate) const NAMES: [&str; 6] = ["nothing", "static", "dagor", "aimd", "gradient", "shedder"];

impl Contender {
    /// The contender of that name; `limit` is the static limit that is best in the scenario, in requests a second.
    pub(crate) fn of(name: &str, limit: f64) -> Contender {
        let rival = |name, make| Contender::Rival { name, make };
        match name {
            "static" => rival("static", Box::new(move || Box::new(Fixed(limit)))),
            "dagor" => rival("dagor", Box::new(|| Box::new(Dagor::new()))),
            "aimd" => rival("aimd", Box::new(|| Box::new(Aimd::new()))),
            "gradient" => rival("gradient", Box::new(|| Box::new(Gradient::new()))),
            "shedder" => Contender::Shedder,
            _ => Contender::Nothing,
        }
    }

    /// As the table shows it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Contender::Nothing => "nothing",
            Contender::Rival { name, .. } => name,
            Contender::Shedder => "shedder",
        }
    }
}
