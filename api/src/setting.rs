//! Single settings of the coordinator. The cluster's object and a network's own configuration share these parsers,
//! so both know the same values and complain in the same words.

use spiderpool_core::world::{Mode, RpFilter};

/// `mode`: `auto`, `overlay`, `underlay`, `disabled`. `disable` is the older spelling of the last.
pub fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "auto" => Ok(Mode::Auto),
        "overlay" => Ok(Mode::Overlay),
        "underlay" => Ok(Mode::Underlay),
        "disabled" | "disable" => Ok(Mode::Disabled),
        _ => Err(format!("{text:?} is no mode; write auto, overlay, underlay or disabled")),
    }
}

/// `podMACPrefix`: two bytes in hexadecimal as `hh:hh`; empty means none. The address must be a unicast one, so the
/// lowest bit of its first byte is 0 (IEEE 802).
pub fn mac_prefix(text: &str) -> Result<Option<[u8; 2]>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let byte = |part: &str| {
        let hexadecimal = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| hexadecimal)
    };
    let bytes = text.split_once(':').and_then(|(first, second)| Some([byte(first)?, byte(second)?]));
    let [first, second] =
        bytes.ok_or_else(|| format!("{text:?} is no MAC prefix; write two bytes in hexadecimal, like 0a:1b"))?;
    if first & 1 == 1 {
        let even = first & !1;
        return Err(format!(
            "{text:?} begins a multicast address; write an even first byte, like {even:02x}:{second:02x}"
        ));
    }
    Ok(Some([first, second]))
}

/// `podRPFilter`: 0, 1 or 2 as the kernel knows them; anything negative leaves the kernel's value alone.
pub fn rp_filter(value: i64) -> Result<RpFilter, String> {
    match value {
        ..0 => Ok(RpFilter::Leave),
        0 => Ok(RpFilter::Off),
        1 => Ok(RpFilter::Strict),
        2 => Ok(RpFilter::Loose),
        _ => Err(format!("{value} is no rp_filter; write 0 (off), 1 (strict), 2 (loose) or -1 (leave it alone)")),
    }
}

/// `hostRuleTable`: number of a routing table; 0 means none is set. The kernel's own tables are refused.
pub fn host_rule_table(value: i64) -> Result<Option<u32>, String> {
    match u32::try_from(value) {
        Ok(0) => Ok(None),
        Ok(253..=255) => Err(format!("{value} is a table of the kernel's own; write another, like 500")),
        Ok(table) => Ok(Some(table)),
        Err(_) => Err(format!("{value} is no routing table; write 1 to {}, like 500", u32::MAX)),
    }
}

/// `txQueueLen`: packets; 0 leaves the queue alone.
pub fn tx_queue_length(value: i64) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{value} is no queue length; write 0 (leave it alone) to {}", u32::MAX))
}

/// Name of an interface, as the kernel takes it (`dev_valid_name`): 1 to 15 bytes without space, slash or colon, not
/// `.` or `..`. Empty means none.
pub fn interface(text: &str) -> Result<Option<String>, String> {
    let valid = text.len() <= 15
        && ![".", ".."].contains(&text)
        && text.chars().all(|character| character.is_ascii_graphic() && !['/', ':'].contains(&character));
    match text {
        "" => Ok(None),
        _ if valid => Ok(Some(text.into())),
        _ => Err(format!("{text:?} is no interface name; write at most 15 characters without space, / and :")),
    }
}
