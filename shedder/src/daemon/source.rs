//! Where the configuration comes from.

use crate::config::{self, Config, LoadError};
use std::path::PathBuf;

/// A file, with what the command line puts on top of it; read again at every reload.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file; none: the defaults.
    pub file: Option<PathBuf>,
    /// In place of the file's interfaces, where any are named.
    pub interfaces: Vec<String>,
    /// Run dry, whatever the file says.
    pub dry_run: bool,
}

impl ConfigSource {
    /// Reads and validates.
    ///
    /// # Errors
    /// Every mistake of the file.
    pub fn load(&self) -> Result<Config, LoadError> {
        let mut config = match &self.file {
            Some(file) => config::load(file)?,
            None => Config::default(),
        };
        if !self.interfaces.is_empty() {
            config.interfaces.clear();
            for name in &self.interfaces {
                if !config.interfaces.contains(name) {
                    config.interfaces.push(name.clone());
                }
            }
        }
        config.dry_run |= self.dry_run;
        Ok(config)
    }
}
