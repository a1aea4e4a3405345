//! What the product tells once a day, and what it asks: nothing of it without consent, all of it shown beforehand.

#![forbid(unsafe_code)]

pub mod audit;
pub mod check;
pub mod daily;
pub mod destination;
pub mod dns;
pub mod identity;
pub mod inventory;
pub mod preview;
pub mod schedule;
pub mod signer;
pub mod upgrade;
pub mod wait;
