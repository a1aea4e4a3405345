//! The groups that the settings stand in, in the order of the help.

#![forbid(unsafe_code)]

/// Groups of the help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    Program,
    Stop,
    Report,
    Consent,
    Telemetry,
    Api,
    Output,
}

impl Section {
    pub const ALL: [Section; 7] = [
        Section::Program,
        Section::Stop,
        Section::Report,
        Section::Consent,
        Section::Telemetry,
        Section::Api,
        Section::Output,
    ];

    pub fn title(self) -> &'static str {
        match self {
            Section::Program => "The program",
            Section::Stop => "Stopping and exit status",
            Section::Report => "Reports",
            Section::Consent => "What may leave (each is off when anybody says so)",
            Section::Telemetry => "Who this is, and the report once a day",
            Section::Api => "API and panel",
            Section::Output => "Output",
        }
    }
}
