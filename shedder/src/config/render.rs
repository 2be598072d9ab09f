//! From a configuration back to a file.

use super::keys::SignalKeys;
use super::model::Config;
use super::section::Section;

impl Config {
    /// The whole configuration as TOML, defaults included. [`parse`](super::parse()) of it gives the same
    /// configuration, provided that this one is valid.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        write(self, &mut text);
        write_table(&self.source, &mut text);
        write_table(&self.newcomers, &mut text);
        for lifeline in &self.lifelines {
            write_table(lifeline, &mut text);
        }
        for rule in &self.rules {
            write_table(rule, &mut text);
        }
        for service in &self.services {
            write_table(service, &mut text);
            let signal = assignments(&SignalKeys::from(&service.signal)).collect::<Vec<_>>().join(", ");
            text.push_str(&format!("signal = {{ {signal} }}\n"));
        }
        write_table(&self.control, &mut text);
        write_table(&self.endpoint, &mut text);
        text
    }
}

fn write_table<S: Section>(section: &S, text: &mut String) {
    text.push_str(&format!("\n{}\n", S::HEADER));
    write(section, text);
}

fn write<S: Section>(section: &S, text: &mut String) {
    for assignment in assignments(section) {
        text.push_str(&assignment);
        text.push('\n');
    }
}

fn assignments<S: Section>(section: &S) -> impl Iterator<Item = String> {
    S::KEYS.iter().filter_map(|key| Some(format!("{} = {}", key.name(), key.write(section)?)))
}
