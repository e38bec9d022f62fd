//! Zones by name and by offset.

use std::sync::LazyLock;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use regex::Regex;

static OFFSET: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?i:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?$").ok());

/// Names that people use and the database has not.
const MORE: [(&str, &str); 3] = [
    ("beijing", "Asia/Shanghai"),
    ("北京", "Asia/Shanghai"),
    ("北京时间", "Asia/Shanghai"),
];

/// A zone, or what to write instead.
pub(super) fn zone(text: &str) -> Result<TimeZone, String> {
    let name = text.trim().trim_start_matches('[').trim_end_matches(']');
    if ["", "Z", "UTC", "GMT"]
        .iter()
        .any(|utc| name.eq_ignore_ascii_case(utc))
    {
        return Ok(TimeZone::UTC);
    }
    if let Some(found) = OFFSET.as_ref().and_then(|offset| offset.captures(name)) {
        let number = |group: usize| {
            found
                .get(group)
                .and_then(|digits| digits.as_str().parse::<i32>().ok())
                .unwrap_or(0)
        };
        let sign = if &found[1] == "-" { -1 } else { 1 };
        let (hours, minutes) = (number(2), number(3));
        if hours > 14 || minutes > 59 {
            return Err(format!(
                "`{name}` is no offset: they go from -14:00 to +14:00"
            ));
        }
        return Offset::from_seconds(sign * (hours * 3600 + minutes * 60))
            .map(TimeZone::fixed)
            .map_err(|error| error.to_string());
    }
    let plain = name.to_lowercase().replace(' ', "_");
    let more = MORE.iter().find(|(other, _)| *other == plain);
    let database = TimeZoneDatabase::bundled();
    if let Ok(zone) = database.get(more.map_or(name, |(_, name)| name)) {
        return Ok(zone);
    }
    let names = database.available().map(|name| name.to_string());
    let alike: Vec<String> = names
        .filter(|other| other.to_lowercase().contains(&plain))
        .collect();
    let city = format!("/{plain}");
    let mut same = alike
        .iter()
        .filter(|other| other.to_lowercase().ends_with(&city));
    match (same.next(), same.next()) {
        (Some(only), None) => database.get(only).map_err(|error| error.to_string()),
        _ if alike.is_empty() || plain.len() < 3 => Err(format!(
            "`{name}` is no zone; zones are like `Asia/Shanghai`, `Europe/Berlin`, `UTC` and `+08:00`"
        )),
        _ => {
            let shown: Vec<&str> = alike.iter().take(5).map(String::as_str).collect();
            Err(format!(
                "`{name}` is no zone; there are {}",
                shown.join(", ")
            ))
        }
    }
}
