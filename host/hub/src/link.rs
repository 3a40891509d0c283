//! `Link: <…>; rel="next"`: where a listing goes on.

/// The target of the first link with the relation `next`, as written.
pub(crate) fn next<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    headers.into_iter().find_map(next_in)
}

fn next_in(mut header: &str) -> Option<&str> {
    // Commas and semicolons may stand inside `<…>`, so the header is walked, not split.
    while let Some(start) = header.find('<') {
        let (target, rest) = header[start + 1..].split_once('>')?;
        let end = end_of_parameters(rest);
        if is_next(&rest[..end]) {
            return Some(target);
        }
        header = &rest[end..];
    }
    None
}

/// Where the next link begins: at a comma outside quotes.
fn end_of_parameters(rest: &str) -> usize {
    let mut is_quoted = false;
    let comma = rest.bytes().position(|byte| {
        is_quoted ^= byte == b'"';
        byte == b',' && !is_quoted
    });
    comma.unwrap_or(rest.len())
}

fn is_next(parameters: &str) -> bool {
    parameters.split(';').filter_map(|it| it.split_once('=')).any(|(name, value)| {
        let relations = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel") && relations.split(' ').any(|it| it.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], expected: Option<&str>) {
        assert_eq!(next(headers.iter().copied()), expected, "{headers:?}");
    }

    #[test]
    fn the_next_page_is_found_among_other_links() {
        check(&[], None);
        check(&["<https://h/x?cursor=a%2Cb>; rel=\"next\""], Some("https://h/x?cursor=a%2Cb"));
        check(&["</x?a=1,2;b>;rel=next"], Some("/x?a=1,2;b"));
        check(&["<a>; rel=\"prev\", <b>; title=\"x, <c>; rel=next\"; rel=\"last next\""], Some("b"));
        check(&["<a>; rel=\"xet-auth\"", "<b>; REL=Next"], Some("b"));
        check(&["<a>; rel=\"prev\""], None);
        check(&["<a>; rev=\"next\""], None);
        check(&["<a; rel=\"next\""], None);
        check(&["a; rel=next"], None);
    }
}
