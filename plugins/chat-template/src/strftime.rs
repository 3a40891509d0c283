//! `strftime_now`: today's date for templates, in UTC and in English.

use std::fmt::Write as _;

const DAY_SECONDS: u64 = 86_400;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A point in time, taken apart.
struct Moment {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
    /// From 1.
    day_of_year: u64,
    /// 0 is Sunday.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

/// `format` with Python's directives filled in. One that is not known stays as it is.
pub(crate) fn strftime(unix_seconds: u64, format: &str) -> String {
    let now = Moment::at(unix_seconds);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            // glibc's flag for a number without padding, which Python passes on.
            Some('-') => match characters.next() {
                Some(directive) => {
                    let mut padded = String::new();
                    now.write(directive, &mut padded);
                    let number = padded.trim_start_matches('0');
                    text.push_str(if number.is_empty() { "0" } else { number });
                }
                None => text.push_str("%-"),
            },
            Some(directive) => now.write(directive, &mut text),
            None => text.push('%'),
        }
    }
    text
}

impl Moment {
    fn at(unix_seconds: u64) -> Self {
        let days = unix_seconds / DAY_SECONDS;
        let seconds = unix_seconds % DAY_SECONDS;
        let (year, month, day) = civil(days);
        let first_of_year = days_until(year);
        Self {
            year,
            month,
            day,
            day_of_year: days - first_of_year + 1,
            // 1970-01-01 was a Thursday.
            weekday: (days + 4) % 7,
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    fn write(&self, directive: char, text: &mut String) {
        let month = MONTHS[usize::try_from(self.month - 1).unwrap_or(0)];
        let weekday = DAYS[usize::try_from(self.weekday).unwrap_or(0)];
        let twelve = (self.hour + 11) % 12 + 1;
        // Writing to a string does not fail.
        let _ = match directive {
            'Y' => write!(text, "{}", self.year),
            'y' => write!(text, "{:02}", self.year % 100),
            'm' => write!(text, "{:02}", self.month),
            'd' => write!(text, "{:02}", self.day),
            'e' => write!(text, "{:2}", self.day),
            'j' => write!(text, "{:03}", self.day_of_year),
            'B' => write!(text, "{month}"),
            'b' | 'h' => write!(text, "{}", &month[..3]),
            'A' => write!(text, "{weekday}"),
            'a' => write!(text, "{}", &weekday[..3]),
            'w' => write!(text, "{}", self.weekday),
            'u' => write!(text, "{}", (self.weekday + 6) % 7 + 1),
            'H' => write!(text, "{:02}", self.hour),
            'I' => write!(text, "{twelve:02}"),
            'M' => write!(text, "{:02}", self.minute),
            'S' => write!(text, "{:02}", self.second),
            'f' => write!(text, "000000"),
            'p' => write!(text, "{}", if self.hour < 12 { "AM" } else { "PM" }),
            'F' => write!(text, "{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' | 'X' => write!(text, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
            'R' => write!(text, "{:02}:{:02}", self.hour, self.minute),
            'D' | 'x' => write!(text, "{:02}/{:02}/{:02}", self.month, self.day, self.year % 100),
            // `datetime.now()` knows no zone, so these are empty in Python too.
            'Z' | 'z' => Ok(()),
            'n' => writeln!(text),
            't' => write!(text, "\t"),
            '%' => write!(text, "%"),
            other => write!(text, "%{other}"),
        };
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01 to the first of January of `year`.
fn days_until(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

/// Year, month and day of the `days`th day after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_until(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - days_until(year);
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix_seconds: u64, format: &str, expected: &str) {
        assert_eq!(strftime(unix_seconds, format), expected);
    }

    #[test]
    fn dates_of_the_calendar() {
        check(0, "%A %d %B %Y %j %H:%M:%S", "Thursday 01 January 1970 001 00:00:00");
        check(951_782_399, "%F %T", "2000-02-28 23:59:59");
        check(951_782_400, "%F", "2000-02-29");
        check(1_707_231_845, "%d %b %Y", "06 Feb 2024");
        check(1_735_603_200, "%Y-%m-%d %j", "2024-12-31 366");
        check(4_107_542_400, "%F", "2100-03-01");
    }

    #[test]
    fn hours_of_the_clock() {
        check(0, "%I %p", "12 AM");
        check(13 * 3600, "%I %p", "01 PM");
        check(12 * 3600, "%-I:%M", "12:00");
        check(3600, "%-H %-d", "1 1");
    }

    #[test]
    fn what_is_no_directive_stays() {
        check(0, "100%", "100%");
        check(0, "%Q %%", "%Q %");
    }
}
