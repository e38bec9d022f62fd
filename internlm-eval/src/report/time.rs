//! Points in time as file names have them, in UTC.

/// `20241128_220541`, OpenCompass's.
pub(crate) fn compact(unix: u64) -> String {
    let (y, mo, d, h, mi, s) = civil(unix);
    format!("{y:04}{mo:02}{d:02}_{h:02}{mi:02}{s:02}")
}

/// `2024-11-28T22-05-41`, lm-evaluation-harness's.
pub(crate) fn iso(unix: u64) -> String {
    let (y, mo, d, h, mi, s) = civil(unix);
    format!("{y:04}-{mo:02}-{d:02}T{h:02}-{mi:02}-{s:02}")
}

/// `2024-11-28 22:05:41 UTC`, for people.
pub(crate) fn readable(unix: u64) -> String {
    let (y, mo, d, h, mi, s) = civil(unix);
    format!("{y:04}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02} UTC")
}

/// Year, month, day, hour, minute and second of seconds since 1970, in the Gregorian calendar.
fn civil(unix: u64) -> (u64, u64, u64, u64, u64, u64) {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    // Years that begin in March, so that the leap day is the last of its year; eras of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    (
        year,
        month,
        day,
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(readable(0), "1970-01-01 00:00:00 UTC");
        // `date -u --date=@951827696`
        assert_eq!(compact(951_827_696), "20000229_123456");
        assert_eq!(iso(4_102_444_799), "2099-12-31T23-59-59");
    }
}
