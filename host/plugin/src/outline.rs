//! What a file claims to be, and the names that a component imports and exports: read before anything is compiled, so
//! that most mistakes are found in a millisecond and named in the user's words.

use inference::Stage;
use wasmparser::{Encoding, Parser, Payload};

/// Names at a component's outermost level.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Why there is no outline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoOutline {
    CoreModule,
    NotWasm,
    Malformed(String),
}

impl Outline {
    pub(crate) fn read(component: &[u8]) -> Result<Self, NoOutline> {
        if !component.starts_with(b"\0asm") {
            return Err(NoOutline::NotWasm);
        }
        let malformed = |error: wasmparser::BinaryReaderError| NoOutline::Malformed(error.to_string());
        let mut outline = Self::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(component) {
            match payload.map_err(malformed)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(NoOutline::CoreModule),
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outline.imports.push(import.map_err(malformed)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline.exports.push(export.map_err(malformed)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }
}

/// The interfaces that a component imports and exports, for whoever describes it to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interfaces {
    /// What it needs.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
}

impl Interfaces {
    /// Reads the names; nothing of the component is compiled or judged. The error finishes "the file …".
    pub fn read(component: &[u8]) -> Result<Self, String> {
        match Outline::read(component) {
            Ok(Outline { imports, exports }) => Ok(Self { imports, exports }),
            Err(NoOutline::CoreModule) => Err("is a core module, not a component".to_owned()),
            Err(NoOutline::NotWasm) => Err("is not WebAssembly".to_owned()),
            Err(NoOutline::Malformed(reason)) => Err(format!("is damaged: {reason}")),
        }
    }
}

/// A name of our contract: `outrigger:plugin/policy@0.1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApiName<'a> {
    pub(crate) interface: &'a str,
    pub(crate) version: &'a str,
    /// Whether this host speaks that version: any `0.1.z`.
    pub(crate) is_supported: bool,
}

/// Takes a name of our contract apart; `None` for anybody else's.
pub(crate) fn api_name(name: &str) -> Option<ApiName<'_>> {
    let name = name.strip_prefix("outrigger:plugin/")?;
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let is_patch = |patch: &str| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
    Some(ApiName { interface, version, is_supported: version.strip_prefix("0.1.").is_some_and(is_patch) })
}

/// The stage that an interface of the contract is; `None` for `lifecycle` and what a later version may add.
pub(crate) fn stage_of(interface: &str) -> Option<Stage> {
    STAGES.into_iter().find(|stage| stage.as_str() == interface)
}

/// The stages that a plugin may export, in the order in which a request meets them.
pub(crate) const STAGES: [Stage; 6] =
    [Stage::Policy, Stage::Prompt, Stage::TokenControl, Stage::Parse, Stage::Postprocess, Stage::Audit];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<(&str, bool)>) {
        let found = api_name(name).map(|name| (name.interface, name.is_supported));
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn versions_of_the_contract() {
        check("outrigger:plugin/policy@0.1.0", Some(("policy", true)));
        check("outrigger:plugin/policy@0.1.17", Some(("policy", true)));
        check("outrigger:plugin/policy@0.2.0", Some(("policy", false)));
        check("outrigger:plugin/policy@0.1.0-dev", Some(("policy", false)));
        check("outrigger:plugin/policy@0.1.", Some(("policy", false)));
        check("outrigger:plugin/policy", Some(("policy", false)));
        check("wasi:cli/stdout@0.2.6", None);
    }

    #[test]
    fn what_is_not_a_component_is_told_apart() {
        assert_eq!(Outline::read(b"\0asm\x01\0\0\0"), Err(NoOutline::CoreModule));
        assert_eq!(Outline::read(b"\x7fELF"), Err(NoOutline::NotWasm));
        assert_eq!(Outline::read(b""), Err(NoOutline::NotWasm));
        assert_eq!(Outline::read(b"\0asm\x0d\0\x01\0"), Ok(Outline::default()));
        assert!(matches!(Outline::read(b"\0asm\x0d\0\x01\0\x0b\xff"), Err(NoOutline::Malformed(_))));
    }
}
