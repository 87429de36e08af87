//! Two functions that chat templates expect to behave as Python's: `json.dumps` and `strftime`.

use minijinja::value::{Kwargs, Value as JinjaValue};
use minijinja::{Error, ErrorKind};
use serde_json::Value;
use web_time::{SystemTime, UNIX_EPOCH};

/// The `tojson` filter of transformers (`utils/chat_template_utils.py`): Python's `json.dumps` without
/// HTML escapes, non-ASCII letters as they are.
pub(super) fn tojson(value: &JinjaValue, options: Kwargs) -> Result<String, Error> {
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let indent = match options.get::<Option<JinjaValue>>("indent")?.filter(|v| !v.is_none()) {
        None => None,
        Some(v) => match (v.as_str(), v.as_usize()) {
            (Some(text), _) => Some(text.to_string()),
            (None, Some(n)) if n <= 64 => Some(" ".repeat(n)),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "tojson: indent is a string or at most 64",
                ));
            }
        },
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are two strings")),
        // Python leaves no space at the end of a line.
        None => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
    };
    let json = serde_json::to_value(value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, format!("tojson: {e}")))?;
    let mut out = String::new();
    Dump { ensure_ascii, sort_keys, indent, item, key }.write(&json, 0, &mut out);
    Ok(out)
}

struct Dump {
    ensure_ascii: bool,
    sort_keys: bool,
    indent: Option<String>,
    item: String,
    key: String,
}

impl Dump {
    fn write(&self, value: &Value, depth: usize, out: &mut String) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Number(n) => match n.as_f64().filter(|_| n.is_f64()) {
                Some(x) => out.push_str(&float(x)),
                None => out.push_str(&n.to_string()),
            },
            Value::String(s) => self.string(s, out),
            Value::Array(items) => self.list(items.iter().map(|v| (None, v)).collect(), "[", "]", depth, out),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().map(|(k, v)| (Some(k.as_str()), v)).collect();
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.list(entries, "{", "}", depth, out);
            }
        }
    }

    fn list(
        &self,
        entries: Vec<(Option<&str>, &Value)>,
        open: &str,
        close: &str,
        depth: usize,
        out: &mut String,
    ) {
        out.push_str(open);
        let newline = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                (0..depth).for_each(|_| out.push_str(indent));
            }
        };
        for (i, (key, value)) in entries.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.item);
            }
            newline(depth + 1, out);
            if let Some(key) = key {
                self.string(key, out);
                out.push_str(&self.key);
            }
            self.write(value, depth + 1, out);
        }
        if !entries.is_empty() {
            newline(depth, out);
        }
        out.push_str(close);
    }

    fn string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Python's `repr` of a float: the shortest digits, an exponent below 1e-4 and from 1e16.
fn float(x: f64) -> String {
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, n) = exponent.strip_prefix('-').map_or(('+', exponent), |n| ('-', n));
            format!("{digits}e{sign}{n:0>2}")
        }
        None => text,
    }
}

/// Seconds of Unix.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Python's `datetime.fromtimestamp(unix_secs, UTC).strftime(format)`: the machine's time zone is no part of the
/// data.
pub(super) fn strftime(format: &str, unix_secs: u64) -> Result<String, Error> {
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
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
    let (days, secs) = (unix_secs / 86_400, unix_secs % 86_400);
    let (year, month, day) = civil(days);
    let day_of_year = days - days_before(year) + 1;
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let (weekday, month_name) = (DAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match letters.next() {
            Some('Y') => out.push_str(&year.to_string()),
            Some('y') => out.push_str(&format!("{:02}", year % 100)),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('j') => out.push_str(&format!("{day_of_year:03}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('H') => out.push_str(&format!("{hour:02}")),
            Some('I') => out.push_str(&format!("{:02}", (hour + 11) % 12 + 1)),
            Some('M') => out.push_str(&format!("{minute:02}")),
            Some('S') => out.push_str(&format!("{second:02}")),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => out.push_str(&format!("{year}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('%') => out.push('%'),
            other => {
                let directive = other.map(String::from).unwrap_or_default();
                let message = format!("strftime_now: `%{directive}` is not supported");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
    }
    Ok(out)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970 to the first of January of `year`.
fn days_before(year: u64) -> u64 {
    let y = year - 1;
    365 * (year - 1970) + (y / 4 - y / 100 + y / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

/// Year, month and day (from 1) of a day counted from 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut rest = days - days_before(year);
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    (year, month as u64 + 1, rest + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use minijinja::{Environment, context};

    fn dump(expression: &str, x: Value) -> String {
        let mut env = Environment::new();
        env.add_filter("tojson", tojson);
        env.render_str(
            &format!("{{{{ {expression} }}}}"),
            context!(x => JinjaValue::from(minijinja::value::Serde(x))),
        )
        .unwrap()
    }

    // Expected values: Python 3.11, json.dumps with the same arguments.
    #[test]
    fn tojson_writes_what_python_writes() {
        let x = serde_json::json!({"b": [1, 2.5, true, null], "a": "<é\"\n\u{7f}😀>"});
        assert_eq!(
            dump("x | tojson", x.clone()),
            "{\"b\": [1, 2.5, true, null], \"a\": \"<é\\\"\\n\u{7f}😀>\"}"
        );
        assert_eq!(
            dump("x | tojson(indent=2, sort_keys=true, ensure_ascii=true)", x.clone()),
            "{\n  \"a\": \"<\\u00e9\\\"\\n\\u007f\\ud83d\\ude00>\",\n  \"b\": [\n    1,\n    2.5,\n    true,\n    null\n  ]\n}"
        );
        assert_eq!(dump("x.b | tojson(separators=(',', ':'))", x), "[1,2.5,true,null]");
        assert_eq!(
            dump("x | tojson(indent=4)", serde_json::json!({"l": [], "m": {}})),
            "{\n    \"l\": [],\n    \"m\": {}\n}"
        );
        let floats = serde_json::json!([1.0, 1e16, 1e-5, 0.0001, 1.5e-7, 123456789.0, 1e100, -0.0]);
        assert_eq!(
            dump("x | tojson", floats),
            "[1.0, 1e+16, 1e-05, 0.0001, 1.5e-07, 123456789.0, 1e+100, -0.0]"
        );
    }

    // Expected values: Python 3.11, datetime.fromtimestamp(t, timezone.utc).strftime(…).
    #[test]
    fn strftime_writes_what_python_writes() {
        let all = "%d %b %Y|%A %a %B|%y-%m-%d %H:%M:%S|%I %p|%j|%e|%%";
        assert_eq!(
            strftime(all, 0).unwrap(),
            "01 Jan 1970|Thursday Thu January|70-01-01 00:00:00|12 AM|001| 1|%"
        );
        assert_eq!(
            strftime(all, 1_709_210_096).unwrap(),
            "29 Feb 2024|Thursday Thu February|24-02-29 12:34:56|12 PM|060|29|%"
        );
        assert_eq!(strftime("%F %T", 4_102_444_799).unwrap(), "2099-12-31 23:59:59");
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("%Q"));
    }
}
