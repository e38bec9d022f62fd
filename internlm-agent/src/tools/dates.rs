//! Dates and times, in the zones of the IANA database, which is part of the program.
//!
//! ```
//! use internlm_agent::tool::{Tool, ToolContext};
//! use internlm_agent::tools::dates::{DateConfig, date_difference};
//!
//! let tool = date_difference(DateConfig::default());
//! let arguments = serde_json::json!({"from": "2026-02-27", "to": "2028-03-01"});
//! let output = tool.call(&arguments, &ToolContext::default())?;
//! assert!(output.to_text().contains("\"days\": 733"));
//! # Ok::<(), internlm_agent::tool::ToolError>(())
//! ```

mod moment;
mod zone;

use std::time::SystemTime;

use jiff::civil::{Date, Weekday};
use jiff::{Span, Unit, ZonedDateTime, ZonedDateTimeDifference};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::catalog::CatalogEntry;
use crate::tool::{ToolError, TypedTool, tool};
use moment::{Moment, Reader};

/// Where the tools for dates are, and when.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DateConfig {
    /// The zone of times without one, such as `Asia/Shanghai` or `+08:00`.
    pub zone: String,
    /// The clock.
    pub clock: fn() -> SystemTime,
}

impl Default for DateConfig {
    fn default() -> Self {
        Self {
            zone: "UTC".to_owned(),
            clock: SystemTime::now,
        }
    }
}

impl DateConfig {
    /// Sets the zone of times without one.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }

    /// Sets the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }
}

/// The date and time now, with the weekday.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DateNow {
    /// Where, such as `Asia/Shanghai` or `+08:00`.
    #[serde(default)]
    pub zone: Option<String>,
}

/// The date or time so much later, or with negative numbers earlier. A day that the month does not have becomes its
/// last.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DateAdd {
    /// From when on: `2026-03-05`, `2026-03-05 14:30`, with an offset or a zone behind it if need be, `now` or
    /// `today`.
    pub start: String,
    /// How many years.
    #[serde(default)]
    pub years: Option<i64>,
    /// How many months.
    #[serde(default)]
    pub months: Option<i64>,
    /// How many weeks.
    #[serde(default)]
    pub weeks: Option<i64>,
    /// How many days.
    #[serde(default)]
    pub days: Option<i64>,
    /// How many hours.
    #[serde(default)]
    pub hours: Option<i64>,
    /// How many minutes.
    #[serde(default)]
    pub minutes: Option<i64>,
    /// How many seconds.
    #[serde(default)]
    pub seconds: Option<i64>,
    /// Where, such as `Asia/Shanghai`, if `start` does not say.
    #[serde(default)]
    pub zone: Option<String>,
}

/// The time between two dates or times: in days, in working days (Monday to Friday, holidays not known), and by the
/// calendar.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DateDifference {
    /// The first: `2026-03-05`, `2026-03-05 14:30`, with an offset or a zone behind it if need be, `now` or `today`.
    pub from: String,
    /// The second, written in the same way.
    pub to: String,
    /// Where, such as `Asia/Shanghai`, if they do not say.
    #[serde(default)]
    pub zone: Option<String>,
}

/// What the clocks show elsewhere at a time.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DateConvert {
    /// The time: `2026-03-05 14:30`, or `now`.
    pub time: String,
    /// Where it is a time of, such as `Asia/Shanghai` or `+08:00`.
    #[serde(default)]
    pub from_zone: Option<String>,
    /// Where the clocks are, such as `America/New_York`.
    pub to_zone: String,
}

/// All tools for dates: `date_now`, `date_add`, `date_difference`, `date_convert`.
pub fn tools(config: &DateConfig) -> Vec<TypedTool> {
    vec![
        date_now(config.clone()),
        date_add(config.clone()),
        date_difference(config.clone()),
        date_convert(config.clone()),
    ]
}

/// The tool `date_now`.
pub fn date_now(config: DateConfig) -> TypedTool {
    tool("date_now", move |arguments: DateNow| {
        let reader = Reader::new("date_now", &config, arguments.zone.as_deref(), "zone")?;
        Ok(shown(&reader.now()?))
    })
}

/// The tool `date_add`.
pub fn date_add(config: DateConfig) -> TypedTool {
    tool("date_add", move |arguments: DateAdd| {
        let reader = Reader::new("date_add", &config, arguments.zone.as_deref(), "zone")?;
        let start = reader.read("start", &arguments.start)?;
        let spans = spans(&arguments).ok_or_else(out_of_range)?;
        let has_time = [arguments.hours, arguments.minutes, arguments.seconds]
            .iter()
            .any(Option::is_some);
        match start {
            Moment::Date(date) if !has_time => {
                let mut days = spans[..2].iter();
                let date = days.try_fold(date, |date, span| date.checked_add(*span));
                let date = date.map_err(|_| out_of_range())?;
                Ok(json!({"date": date.to_string(), "weekday": weekday(date.weekday())}))
            }
            start => {
                let (start, note) = start.in_zone(&reader)?;
                let time = spans
                    .iter()
                    .try_fold(start, |time, span| time.checked_add(*span));
                Ok(noted(shown(&time.map_err(|_| out_of_range())?), note))
            }
        }
    })
}

/// The tool `date_difference`.
pub fn date_difference(config: DateConfig) -> TypedTool {
    tool("date_difference", move |arguments: DateDifference| {
        let reader = Reader::new(
            "date_difference",
            &config,
            arguments.zone.as_deref(),
            "zone",
        )?;
        let from = reader.read("from", &arguments.from)?;
        let to = reader.read("to", &arguments.to)?;
        if let (Moment::Date(from), Moment::Date(to)) = (&from, &to) {
            // Without a zone: a day that is not over anywhere is one as well.
            return days_between(*from, *to).map_err(|_| out_of_range());
        }
        let (from, first_note) = from.in_zone(&reader)?;
        let (to, second_note) = to.in_zone(&reader)?;
        // By the calendar of the first one's place.
        let to = to.with_time_zone(from.time_zone().clone());
        let between = times_between(&from, &to).map_err(|_| out_of_range())?;
        Ok(noted(between, first_note.or(second_note)))
    })
}

/// The tool `date_convert`.
pub fn date_convert(config: DateConfig) -> TypedTool {
    tool("date_convert", move |arguments: DateConvert| {
        let from = arguments.from_zone.as_deref();
        let reader = Reader::new("date_convert", &config, from, "from_zone")?;
        let target = Reader::new("date_convert", &config, Some(&arguments.to_zone), "to_zone")?;
        let (time, note) = reader.read("time", &arguments.time)?.in_zone(&reader)?;
        Ok(noted(shown(&time.with_time_zone(target.zone())), note))
    })
}

fn out_of_range() -> ToolError {
    ToolError::Limit {
        what: "only the years -9999 to 9999 are known".to_owned(),
    }
}

/// Months, days and seconds, to be added in this order: a span of all would have one sign for all. The years of
/// which nothing is known are `None`.
fn spans(arguments: &DateAdd) -> Option<[Span; 3]> {
    let sum = |parts: &[(Option<i64>, i64)]| {
        let parts = parts
            .iter()
            .map(|(count, of)| count.unwrap_or(0).checked_mul(*of));
        parts.reduce(|sum, part| sum?.checked_add(part?)).flatten()
    };
    let months = sum(&[(arguments.years, 12), (arguments.months, 1)])?;
    let days = sum(&[(arguments.weeks, 7), (arguments.days, 1)])?;
    let time = [
        (arguments.hours, 3600),
        (arguments.minutes, 60),
        (arguments.seconds, 1),
    ];
    Some([
        Span::new().try_months(months).ok()?,
        Span::new().try_days(days).ok()?,
        Span::new().try_seconds(sum(&time)?).ok()?,
    ])
}

/// A time, and what people want to know of it.
fn shown(time: &ZonedDateTime) -> Value {
    let zone = time
        .time_zone()
        .iana_name()
        .map_or_else(|| time.offset().to_string(), str::to_owned);
    json!({
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        "weekday": weekday(time.weekday()),
        "zone": zone,
        "iso_week": time.iso_week_date().week(),
        "day_of_year": time.day_of_year(),
        "unix_seconds": time.timestamp().as_second(),
    })
}

fn noted(mut shown: Value, note: Option<String>) -> Value {
    if let Some(note) = note {
        shown["note"] = note.into();
    }
    shown
}

fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

fn days_between(from: Date, to: Date) -> Result<Value, jiff::Error> {
    Ok(json!({
        "days": from.until((Unit::Day, to))?.get_days(),
        "working_days": working_days(from, to),
        "calendar": in_words(&from.until((Unit::Year, to))?),
    }))
}

fn times_between(from: &ZonedDateTime, to: &ZonedDateTime) -> Result<Value, jiff::Error> {
    let by = |unit| from.until(ZonedDateTimeDifference::new(to).largest(unit));
    Ok(json!({
        "days": by(Unit::Day)?.get_days(),
        "working_days": working_days(from.date(), to.date()),
        "calendar": in_words(&by(Unit::Year)?),
        "seconds": from.duration_until(to).as_secs(),
        "from": from.to_string(),
        "to": to.to_string(),
    }))
}

/// Days from Monday to Friday, the first counted and the last not; negative backwards.
fn working_days(from: Date, to: Date) -> i64 {
    let (first, last, sign) = if from <= to {
        (from, to, 1)
    } else {
        (to, from, -1)
    };
    // Both are dates, so there is nothing but days between them.
    let days = first.duration_until(last).as_hours() / 24;
    let begin = i64::from(first.weekday().to_monday_zero_offset());
    let rest = (0..days % 7).filter(|day| (begin + day) % 7 < 5).count();
    sign * (days / 7 * 5 + i64::try_from(rest).unwrap_or(0))
}

/// `1 year, 2 days later`.
fn in_words(span: &Span) -> String {
    let parts = [
        (i64::from(span.get_years()), "year"),
        (i64::from(span.get_months()), "month"),
        (i64::from(span.get_days()), "day"),
        (i64::from(span.get_hours()), "hour"),
        (span.get_minutes(), "minute"),
        (span.get_seconds(), "second"),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count != 0)
        .map(|(count, unit)| match count.abs() {
            1 => format!("1 {unit}"),
            count => format!("{count} {unit}s"),
        })
        .collect();
    match (parts.is_empty(), span.is_negative()) {
        (true, _) => "the same".to_owned(),
        (_, false) => format!("{} later", parts.join(", ")),
        (_, true) => format!("{} earlier", parts.join(", ")),
    }
}

/// What the catalog says of them.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let made_by = [
        "tools::dates::date_now",
        "tools::dates::date_add",
        "tools::dates::date_difference",
        "tools::dates::date_convert",
    ];
    let limits = format!(
        "the years -9999 to 9999, and {} bytes of text.",
        moment::MAX_BYTES
    );
    tools(&DateConfig::default())
        .iter()
        .zip(made_by)
        .map(|(tool, made_by)| {
            CatalogEntry::from_tool(tool, made_by, limits.clone()).in_default_set()
        })
        .collect()
}
