//! Dates and times as people write them.

use std::sync::LazyLock;
use std::time::SystemTime;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use regex::Regex;

use super::zone::zone;
use super::{DateConfig, out_of_range};
use crate::tool::ToolError;

/// Most bytes of a text.
pub(super) const MAX_BYTES: usize = 64;

/// Year, month, day; hour, minute, second; zone.
static FORM: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^(-?\d{4})(?:[-/.]|\s*年\s*)(\d{1,2})(?:[-/.]|\s*月\s*)(\d{1,2})(?:\s*[日号])?",
        r"(?:[Tt\s]+(\d{1,2})[:时点](\d{2})分?(?::(\d{2})(?:[.,]\d+)?)?)?",
        r"\s*(\D\S*|[+-]\S+)?$"
    ))
    .ok()
});

/// A day, or a time of one.
#[derive(Clone, Debug)]
pub(super) enum Moment {
    Date(Date),
    Local(DateTime),
    Zoned(ZonedDateTime, Option<String>),
}

impl Moment {
    /// The time, or the first of the day, in the zone of the call if it has none of its own; and what is odd about it.
    pub(super) fn in_zone(
        self,
        reader: &Reader,
    ) -> Result<(ZonedDateTime, Option<String>), ToolError> {
        match self {
            Self::Date(date) => date
                .to_zoned_datetime(reader.zone())
                .map(|time| (time, None))
                .map_err(|_| out_of_range()),
            Self::Local(time) => placed(time, &reader.zone()),
            Self::Zoned(time, note) => Ok((time, note)),
        }
    }
}

/// Reads the arguments of a call.
pub(super) struct Reader {
    tool: &'static str,
    zone: TimeZone,
    clock: fn() -> SystemTime,
}

impl Reader {
    /// For a call in a zone, which stands in an argument of this name.
    pub(super) fn new(
        tool: &'static str,
        config: &DateConfig,
        named: Option<&str>,
        argument: &str,
    ) -> Result<Self, ToolError> {
        let wrong = |what| ToolError::Arguments {
            tool: tool.to_owned(),
            what: format!("`{argument}`: {what}"),
        };
        let text = match named {
            Some(named) if named.len() > MAX_BYTES => {
                return Err(wrong(format!("it is longer than {MAX_BYTES} bytes")));
            }
            Some(named) if !named.trim().is_empty() => named,
            _ => &config.zone,
        };
        Ok(Self {
            tool,
            zone: zone(text).map_err(wrong)?,
            clock: config.clock,
        })
    }

    pub(super) fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    pub(super) fn now(&self) -> Result<ZonedDateTime, ToolError> {
        let now = Timestamp::try_from((self.clock)()).map_err(|_| out_of_range())?;
        Ok(now.to_zoned_datetime(self.zone()))
    }

    pub(super) fn read(&self, argument: &str, text: &str) -> Result<Moment, ToolError> {
        let wrong = |what: String| ToolError::Arguments {
            tool: self.tool.to_owned(),
            what: format!("`{argument}`: {what}"),
        };
        let text = text.trim();
        if text.len() > MAX_BYTES {
            return Err(wrong(format!("it is longer than {MAX_BYTES} bytes")));
        }
        let today = || self.now().map(|now| now.date());
        match text.to_lowercase().as_str() {
            "now" | "现在" => return Ok(Moment::Zoned(self.now()?, None)),
            "today" | "今天" => return Ok(Moment::Date(today()?)),
            "tomorrow" | "明天" => {
                let day = today()?.tomorrow();
                return day.map(Moment::Date).map_err(|_| out_of_range());
            }
            "yesterday" | "昨天" => {
                let day = today()?.yesterday();
                return day.map(Moment::Date).map_err(|_| out_of_range());
            }
            _ => {}
        }
        let Some(found) = FORM.as_ref().and_then(|form| form.captures(text)) else {
            return Err(wrong(format!(
                "`{text}` is no date; write it like `2026-03-05` or `2026-03-05 14:30`"
            )));
        };
        let number = |group: usize| {
            let digits = found.get(group).map_or("0", |digits| digits.as_str());
            digits.parse::<i16>().unwrap_or(i16::MAX)
        };
        let small = |group: usize| i8::try_from(number(group)).unwrap_or(i8::MAX);
        let date = Date::new(number(1), small(2), small(3))
            .map_err(|_| wrong(format!("there is no day `{text}`")))?;
        let zone_text = found.get(7).map(|zone| zone.as_str());
        if found.get(4).is_none() {
            return match zone_text {
                None => Ok(Moment::Date(date)),
                Some(more) => Err(wrong(format!(
                    "what `{more}` behind the date means is not known"
                ))),
            };
        }
        let time = Time::new(small(4), small(5), small(6), 0)
            .map_err(|_| wrong(format!("there is no time of day `{text}`")))?;
        let time = date.to_datetime(time);
        match zone_text {
            None => Ok(Moment::Local(time)),
            Some(named) => {
                let (time, note) = placed(time, &zone(named).map_err(wrong)?)?;
                Ok(Moment::Zoned(time, note))
            }
        }
    }
}

/// When the clocks of a zone show a time. There are times that they skip, and some that they show twice.
fn placed(time: DateTime, zone: &TimeZone) -> Result<(ZonedDateTime, Option<String>), ToolError> {
    let placed = zone.to_ambiguous_zoned_datetime(time);
    let note = placed.is_ambiguous().then(|| {
        format!("the clocks there skip {time} or show it twice; it is taken with the offset before the change")
    });
    let time = placed.compatible().map_err(|_| out_of_range())?;
    Ok((time, note))
}
