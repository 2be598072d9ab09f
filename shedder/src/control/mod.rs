//! Decisions: what the loop makes of what it observed. Pure: time and measurements come in, decisions go out.
