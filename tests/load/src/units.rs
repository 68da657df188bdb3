//! Durations, shares, rates and sizes as people write them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// `20ms`, `1.5s`, `2m`, `300us`; a number alone is seconds.
pub fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => anyhow::bail!("{text}: us, ms, s, m and h are understood"),
    };
    Duration::try_from_secs_f64(number * scale).with_context(|| format!("{text} is no duration"))
}

/// `1%`, or `0.01`.
pub fn share(text: &str) -> Result<f64> {
    let (number, unit) = split(text)?;
    let share = match unit {
        "%" => number / 100.0,
        "" => number,
        _ => anyhow::bail!("{text}: a share is 1% or 0.01"),
    };
    ensure!((0.0..=1.0).contains(&share), "{text} is not within 0 and 1");
    Ok(share)
}

/// `500k`, `2.5M`, `1G`.
pub fn count(text: &str) -> Result<f64> {
    let (number, unit) = split(text)?;
    let scale = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        _ => anyhow::bail!("{text}: k, M and G are understood"),
    };
    Ok(number * scale)
}

/// Bits per second: `500k`, `2.5M`.
pub fn rate(text: &str) -> Result<u64> {
    let rate = count(text)?;
    ensure!(rate >= 1.0, "{text} is no rate");
    Ok(rate as u64)
}

/// `1280x720`.
pub fn size(text: &str) -> Result<(u16, u16)> {
    let (width, height) = text.split_once('x').context("a size is 1280x720")?;
    Ok((width.parse().context("a size is 1280x720")?, height.parse().context("a size is 1280x720")?))
}

fn split(text: &str) -> Result<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse().with_context(|| format!("{text:?} does not begin with a number"))?;
    Ok((number, unit.trim()))
}

/// A duration for people, with three digits that matter.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (number, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    format!("{} {unit}", digits(number))
}

/// A number for people: 1,234,567; small ones with three digits that matter.
pub fn show_number(number: f64) -> String {
    if number.abs() < 1000.0 {
        return digits(number);
    }
    let whole = format!("{number:.0}");
    let (sign, whole) = whole.strip_prefix('-').map_or(("", &whole[..]), |rest| ("-", rest));
    let mut out = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn digits(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 || n.fract().abs() < 1e-9 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        assert_eq!(duration("20ms").unwrap(), Duration::from_millis(20));
        assert_eq!(duration("1.5 s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("3").unwrap(), Duration::from_secs(3));
        assert!((share("0.5%").unwrap() - 0.005).abs() < 1e-12);
        assert_eq!(rate("2.5M").unwrap(), 2_500_000);
        assert_eq!(size("640x360").unwrap(), (640, 360));
        for wrong in ["", "ms", "1 week", "-1s", "1e9h h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(share("101%").is_err() && rate("0").is_err() && size("640").is_err());
    }

    #[test]
    fn what_people_read_is_short() {
        assert_eq!(show_duration(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(show_duration(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!([0.0, 12.34, 999.4, 1_234_567.8].map(show_number), ["0", "12.3", "999", "1,234,568"]);
    }
}
