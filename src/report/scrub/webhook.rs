//! Addresses that are secrets themselves: whoever knows a webhook's URL can post to it.

#![forbid(unsafe_code)]

use super::MASK;
use std::ops::Range;

/// What stands before the secret part.
const ADDRESSES: [&str; 8] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "discord.com/api/webhooks/",
    "discordapp.com/api/webhooks/",
    ".webhook.office.com/webhookb2/",
    "outlook.office.com/webhook/",
    "api.telegram.org/bot",
];

pub(super) fn find(text: &str, found: &mut Vec<Range<usize>>) {
    for address in ADDRESSES {
        let mut done = 0;
        for (at, _) in text.match_indices(address) {
            let start = at + address.len();
            if start < done || text[start..].starts_with(MASK) {
                continue;
            }
            let ends = |c: char| c.is_whitespace() || "\"'`<>\\".contains(c) || c == '/' && address.ends_with("bot");
            done = text[start..].find(ends).map_or(text.len(), |i| start + i);
            found.push(start..done);
        }
    }
}
