//! The tools for dates; what they say was checked against Python's `datetime` and `zoneinfo`.

use std::time::{Duration, SystemTime};

use internlm_agent::tool::TypedTool;
use internlm_agent::tools::dates::{DateConfig, date_add, date_convert, date_difference, date_now};
use serde_json::{Value, json};

use super::support::{call, limit, misfit};

/// 2026-11-29 01:20:34 UTC, a Sunday.
fn config() -> DateConfig {
    DateConfig::default().with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_915_234))
}

#[track_caller]
fn value(tool: &TypedTool, arguments: Value) -> Value {
    serde_json::from_str(&call(tool, arguments).unwrap().to_text()).unwrap()
}

#[test]
fn it_is_some_time_somewhere() {
    let tool = date_now(config());
    let want = json!({
        "time": "2026-11-29T01:20:34+00:00", "weekday": "Sunday", "zone": "UTC", "iso_week": 48,
        "day_of_year": 333, "unix_seconds": 1_795_915_234,
    });
    assert_eq!(value(&tool, json!({})), want);
    for (zone, want) in [
        ("Asia/Shanghai", "2026-11-29T09:20:34+08:00"),
        ("asia/shanghai", "2026-11-29T09:20:34+08:00"),
        ("Shanghai", "2026-11-29T09:20:34+08:00"),
        ("北京", "2026-11-29T09:20:34+08:00"),
        ("New York", "2026-11-28T20:20:34-05:00"),
        ("Asia/Kathmandu", "2026-11-29T07:05:34+05:45"),
        ("+08:00", "2026-11-29T09:20:34+08:00"),
        ("UTC+8", "2026-11-29T09:20:34+08:00"),
        ("-0330", "2026-11-28T21:50:34-03:30"),
        ("Z", "2026-11-29T01:20:34+00:00"),
        (" ", "2026-11-29T01:20:34+00:00"),
    ] {
        assert_eq!(value(&tool, json!({"zone": zone}))["time"], want, "{zone}");
    }
    let tool = date_now(config().with_zone("Asia/Tokyo"));
    assert_eq!(value(&tool, json!({}))["time"], "2026-11-29T10:20:34+09:00");
}

#[test]
fn zones_that_there_are_not() {
    let tool = date_now(config());
    for (zone, want) in [
        (
            "Mars/Olympus",
            "`zone`: `Mars/Olympus` is no zone; zones are like `Asia/Shanghai`, `Europe/Berlin`, `UTC` and `+08:00`",
        ),
        (
            "Argentina",
            "`zone`: `Argentina` is no zone; there are America/Argentina/Buenos_Aires, \
             America/Argentina/Catamarca, America/Argentina/ComodRivadavia, America/Argentina/Cordoba, \
             America/Argentina/Jujuy",
        ),
        (
            "+25",
            "`zone`: `+25` is no offset: they go from -14:00 to +14:00",
        ),
    ] {
        assert_eq!(misfit(&tool, json!({"zone": zone})), want);
    }
    let long = misfit(&tool, json!({"zone": "x".repeat(65)}));
    assert_eq!(long, "`zone`: it is longer than 64 bytes");
    let of_tool = misfit(&date_convert(config()), json!({"time": "now"}));
    assert_eq!(of_tool, "`to_zone` is missing");
}

#[test]
fn dates_are_added_to() {
    let tool = date_add(config());
    let date = |start: &str, more: Value| {
        let mut arguments = more;
        arguments["start"] = start.into();
        value(&tool, arguments)
    };
    for (start, more, want, weekday) in [
        ("2026-03-05", json!({"days": 30}), "2026-04-04", "Saturday"),
        ("2026/3/5", json!({"weeks": -1}), "2026-02-26", "Thursday"),
        ("2026年3月5日", json!({"months": 1}), "2026-04-05", "Sunday"),
        ("2026-01-31", json!({"months": 1}), "2026-02-28", "Saturday"),
        ("2028-02-29", json!({"years": 1}), "2029-02-28", "Wednesday"),
        ("2024-02-28", json!({"days": 1}), "2024-02-29", "Thursday"),
        (
            "today",
            json!({"years": -1, "days": 1}),
            "2025-11-30",
            "Sunday",
        ),
        ("明天", json!({}), "2026-11-30", "Monday"),
    ] {
        assert_eq!(
            date(start, more),
            json!({"date": want, "weekday": weekday}),
            "{start}"
        );
    }
    for (start, more, want) in [
        (
            "2026-03-05 23:30",
            json!({"minutes": 45}),
            "2026-03-06T00:15:00+00:00",
        ),
        (
            "2026-03-05",
            json!({"hours": 25}),
            "2026-03-06T01:00:00+00:00",
        ),
        (
            "2026-03-05T14:30:05+08:00",
            json!({"seconds": -6}),
            "2026-03-05T14:29:59+08:00",
        ),
        (
            "now",
            json!({"hours": 1, "zone": "Asia/Shanghai"}),
            "2026-11-29T10:20:34+08:00",
        ),
        // A day of the calendar has 23 hours here, and 24 hours are not a day.
        (
            "2026-03-28 12:00 Europe/Berlin",
            json!({"days": 1}),
            "2026-03-29T12:00:00+02:00",
        ),
        (
            "2026-03-28 12:00 [Europe/Berlin]",
            json!({"hours": 24}),
            "2026-03-29T13:00:00+02:00",
        ),
    ] {
        assert_eq!(date(start, more)["time"], want, "{start}");
    }
    let skipped = date("2026-03-29 02:30", json!({"zone": "Europe/Berlin"}));
    assert_eq!(skipped["time"], "2026-03-29T03:30:00+02:00");
    let note = skipped["note"].as_str().unwrap();
    assert!(
        note.starts_with("the clocks there skip 2026-03-29T02:30:00 or show it twice"),
        "{note}"
    );
}

#[test]
fn what_is_no_date_is_said() {
    let tool = date_add(config());
    for (start, want) in [
        (
            "soon",
            "`start`: `soon` is no date; write it like `2026-03-05` or `2026-03-05 14:30`",
        ),
        (
            "",
            "`start`: `` is no date; write it like `2026-03-05` or `2026-03-05 14:30`",
        ),
        ("2026-02-30", "`start`: there is no day `2026-02-30`"),
        ("2026-13-01", "`start`: there is no day `2026-13-01`"),
        (
            "2026-03-05 24:61",
            "`start`: there is no time of day `2026-03-05 24:61`",
        ),
        (
            "2026-03-05 BCE",
            "`start`: what `BCE` behind the date means is not known",
        ),
    ] {
        assert_eq!(misfit(&tool, json!({"start": start})), want);
    }
    let long = misfit(&tool, json!({"start": "2".repeat(100_000)}));
    assert_eq!(long, "`start`: it is longer than 64 bytes");
    let kind = misfit(&tool, json!({"start": "today", "days": "three"}));
    assert_eq!(kind, "`days` must be integer or null, not a string");
}

#[test]
fn years_have_an_end() {
    let tool = date_add(config());
    let want = "only the years -9999 to 9999 are known";
    for more in [
        json!({"years": 8000}),
        json!({"years": i64::MAX}),
        json!({"days": i64::MIN}),
        json!({"seconds": i64::MAX}),
    ] {
        let mut arguments = more;
        arguments["start"] = "2026-03-05".into();
        assert_eq!(limit(&tool, arguments), want);
    }
    assert_eq!(
        limit(&tool, json!({"start": "9999-12-31 23:59", "hours": 20})),
        want
    );
    // The last hour west of Greenwich is of the year 10000 there.
    let last = "9999-12-31 23:59 -12:00";
    let arguments = json!({"from": "today", "to": last});
    assert_eq!(limit(&date_difference(config()), arguments), want);
    let arguments = json!({"time": last, "to_zone": "UTC"});
    assert_eq!(limit(&date_convert(config()), arguments), want);
    let late =
        date_now(config().with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40)));
    assert_eq!(limit(&late, json!({})), want);
}

#[test]
fn times_are_compared() {
    let tool = date_difference(config());
    for (from, to, days, working, calendar) in [
        (
            "2026-02-27",
            "2028-03-01",
            733,
            523,
            "2 years, 3 days later",
        ),
        ("2026-03-05", "2026-03-05", 0, 0, "the same"),
        ("2026-03-09", "2026-03-05", -4, -2, "4 days earlier"),
        ("2026-03-06", "2026-03-09", 3, 1, "3 days later"),
        ("2026-01-31", "2026-02-28", 28, 20, "28 days later"),
        (
            "0001-01-01",
            "9999-12-31",
            3_652_058,
            2_608_614,
            "9998 years, 11 months, 30 days later",
        ),
    ] {
        let want = json!({"days": days, "working_days": working, "calendar": calendar});
        assert_eq!(
            value(&tool, json!({"from": from, "to": to})),
            want,
            "{from} {to}"
        );
    }
    let want = json!({
        "days": 1, "working_days": 1, "calendar": "1 day, 1 hour, 30 minutes later", "seconds": 91_800,
        "from": "2026-03-05T14:30:00+08:00[Asia/Shanghai]", "to": "2026-03-06T16:00:00+08:00[Asia/Shanghai]",
    });
    let arguments = json!({"from": "2026-03-05 14:30 Asia/Shanghai", "to": "2026-03-06 08:00 Z"});
    assert_eq!(value(&tool, arguments), want);
    let fault = misfit(&tool, json!({"from": "today", "to": "someday"}));
    assert!(fault.starts_with("`to`: `someday` is no date"), "{fault}");
}

#[test]
fn clocks_elsewhere() {
    let tool = date_convert(config());
    let arguments = json!({"time": "2026-07-01 09:00", "from_zone": "Asia/Shanghai", "to_zone": "America/New_York"});
    let shown = value(&tool, arguments);
    assert_eq!(
        (&shown["time"], &shown["weekday"]),
        (&json!("2026-06-30T21:00:00-04:00"), &json!("Tuesday"))
    );
    let fault = misfit(&tool, json!({"time": "now", "to_zone": "Nowhere"}));
    assert!(
        fault.starts_with("`to_zone`: `Nowhere` is no zone"),
        "{fault}"
    );
}
