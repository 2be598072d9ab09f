//! What holds of any text whatever, for the tests and for the fuzz target.

use crate::config::parse;

/// A text is a configuration that prints as itself, or is refused with mistakes that lie in it and name a key, unless it
/// is no TOML there.
///
/// # Panics
/// Where it is neither.
pub(crate) fn any_text(text: &str) {
    let mistakes = match parse(text) {
        Err(mistakes) => mistakes,
        Ok(config) => {
            assert!(toml::de::DeTable::parse(text).is_ok(), "the parser of TOML refuses it");
            assert_eq!(parse(&config.to_toml()), Ok(config));
            return;
        }
    };
    assert!(!mistakes.is_empty());
    let lines: Vec<&str> = text.split('\n').collect();
    for mistake in &mistakes {
        assert!(!mistake.message.is_empty() && !mistake.to_string().contains('\n'), "{mistake:?}");
        assert!(!mistake.path.is_empty() || mistake.message.starts_with("is not TOML"), "no key: {mistake}");
        assert!((1..=lines.len()).contains(&mistake.line), "{mistake}");
        let columns = lines[mistake.line - 1].chars().count() + 1;
        assert!((1..=columns).contains(&mistake.column), "{mistake}");
    }
    assert!(mistakes.is_sorted_by_key(|mistake| (mistake.line, mistake.column)));
}
