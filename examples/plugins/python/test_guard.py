import unittest

from guard import AUTHORITY_CHARACTERS_MAX, PATH_CHARACTERS_MAX, Guard

GUARD = Guard(["example.org"])


def streamed(pieces: list[str]) -> str:
    """What the host does: shows what is not consumed, and sends what comes of it."""
    window, sent = "", ""
    for number, piece in enumerate(pieces):
        window += piece
        done, text = GUARD.check(window, number == len(pieces) - 1)
        sent, window = sent + text, window[done:]
    return sent + window


class Links(unittest.TestCase):
    def test_links_lead_where_they_may(self):
        for link in ["https://example.org", "HTTP://docs.Example.org./a?b#c", "https://example.org:80/",
                     "https:example.org", r"https:\\example.org", "https://example.org/@a"]:
            self.assertEqual(streamed([f"See ({link})."]), f"See ({link}).")

    def test_others_are_removed(self):
        for link in ["https://evil.test/?q=secret", "http://example.org.evil.test", "https://example.org@evil.test/",
                     "https://notexample.org", "https://[::1/", "https://", "https://user@example.org:80/",
                     "https://example.org'@evil.test/x", "https://example.org}@evil.test", "https://example.org'.evil.test",
                     "https://example.org]%2eevil.test", "https://example.org\"。evil.test", "https:/evil.test",
                     "https:evil.test", r"https:\\evil.test", r"https://evil.test\@example.org", "https:////////////evil.test"]:
            self.assertEqual(streamed([f"See {link}, yes"]), "See [link removed], yes")
        self.assertEqual(streamed(["[x](//evil.test) [y](//example.org)"]), "[x]([link removed]) [y](//example.org)")
        self.assertEqual(streamed(["[x](https://example.org]@evil.test/)"]), "[x]([link removed])")
        self.assertEqual(streamed(['{"a":"https://evil.test","b":1}']), '{"a":"[link removed]","b":1}')

    def test_markdown_hides_few_links(self):
        for before in ["[x](", "[x]( ", "[x](<", "[x](\n <", "[x]: ", "[x]:<"]:
            self.assertEqual(streamed([f"{before}//evil.test"]), f"{before}[link removed]")
            self.assertEqual(streamed([f"{before}//example.org"]), f"{before}//example.org")
        for colon in [r"\:", "&#58;", "&#x3A;", "&#0058;", "&colon;"]:
            text = f"[x](https{colon}//evil.test)"
            self.assertEqual(streamed([text]), "[x]([link removed])")
            self.assertEqual(streamed(list(text)), "[x]([link removed])")
        self.assertEqual(streamed(["https://example.org&#64;evil.test/"])[:14], "[link removed]")

    def test_a_name_without_end_leads_nowhere(self):
        text = f"https://example.org:{'a' * AUTHORITY_CHARACTERS_MAX}@evil.test/"
        self.assertTrue(streamed([text]).startswith("[link removed]a"))
        self.assertEqual(streamed(list(text)), streamed([text]))

    def test_what_is_no_link_stays(self):
        for text in ["https: is a scheme", "a // b (c)", "(see //comment)", "f( // why", "a[0]", "https &", "http"]:
            self.assertEqual(streamed(list(text)), text)

    def test_every_way_to_cut_a_text_in_three_gives_the_same(self):
        text = "hth 🙂 http://evil.test/ü? https://docs.example.org, htt https:/ (//a.b) http"
        other = "[a]: <//a.b> ( /c) https&colon;//a.b]"
        whole = streamed([text])
        self.assertEqual(whole, "hth 🙂 [link removed]? https://docs.example.org, htt https:/ ([link removed]) http")
        self.assertEqual(streamed([other]), "[a]: <[link removed]> ( /c) [link removed]]")
        for text in [text, other]:
            whole = streamed([text])
            for first in range(len(text) + 1):
                for second in range(first, len(text) + 1):
                    self.assertEqual(streamed([text[:first], text[first:second], text[second:]]), whole)

    def test_only_what_may_be_a_link_is_held_back(self):
        self.assertEqual([GUARD.check(text, False)[0] for text in ["the", "the h", "the https:/", "a http://x"]], [3, 4, 4, 2])

    def test_a_link_without_end_is_judged_by_its_beginning(self):
        text = "https://evil.test/" + "x" * 2 * PATH_CHARACTERS_MAX
        self.assertTrue(streamed([text]).startswith("[link removed]xxx"))
        self.assertEqual(streamed(list(text)), streamed([text]))


if __name__ == "__main__":
    unittest.main()
