//! The version that an image tells: its tag, else the start of its id.

use fairway_config::names::Version;

/// How much of an image id names a version, in hex digits.
const ID_DIGITS: usize = 12;

/// The version of a container that no label gives one: the tag of the image it was made from; when that is absent or
/// `latest`, the first 12 hex digits of the image id (`sha256:...`). A tag that is no version gives the nearest one.
pub(super) fn version(reference: &str, image_id: &str) -> Version {
    let tagged = tag(reference).filter(|tag| *tag != "latest").and_then(Version::nearest);
    let by_id = || {
        let digits = image_id.rsplit_once(':').map_or(image_id, |(_, digits)| digits);
        Version::nearest(&digits.chars().take(ID_DIGITS).collect::<String>())
    };
    tagged.or_else(by_id).or_else(|| Version::nearest("unknown")).expect("`unknown` is a version")
}

/// The tag of an image reference: `[registry[:port]/]path[:tag][@digest]`, or an image id, which has none.
fn tag(reference: &str) -> Option<&str> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    let (path, tag) = last.split_once(':')?;
    let is_id = path == "sha256" && tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit());
    (!is_id && !tag.is_empty()).then_some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_tag_is_the_version_whatever_stands_around_it() {
        for (reference, want) in [
            ("nginx:1.25", "1.25"),
            ("docker.io/library/nginx:1.25-alpine", "1.25-alpine"),
            ("registry:5000/shop/web:v2", "v2"),
            ("registry.company.com:5000/web:v2@sha256:aaaa", "v2"),
            ("[fd00::1]:5000/web:v3", "v3"),
            ("web:1.0_rc.1", "1.0_rc.1"),
        ] {
            assert_eq!(version(reference, ID).as_str(), want, "{reference}");
        }
    }

    #[test]
    fn without_a_telling_tag_the_image_id_is_the_version() {
        for reference in [
            "nginx",
            "nginx:latest",
            "registry:5000/shop/web",
            "web@sha256:aaaa",
            ID,
            "0123456789ab",
            "web:",
            "",
        ] {
            assert_eq!(version(reference, ID).as_str(), "0123456789ab", "{reference}");
        }
    }

    #[test]
    fn a_tag_that_is_no_version_gives_the_nearest_one() {
        let long = format!("web:{}", "t".repeat(100));
        assert_eq!(version(&long, ID).as_str(), "t".repeat(64));
        assert_eq!(version("web:a+b c", ID).as_str(), "a-b-c");
    }

    #[test]
    fn an_image_without_an_id_still_has_a_version() {
        for id in ["", "sha256:"] {
            assert_eq!(version("web", id).as_str(), "unknown", "{id:?}");
        }
        assert_eq!(version("web", "weird id!").as_str(), "weird-id-");
    }
}
