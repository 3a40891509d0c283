import unittest

from masker import Masker


class Words(unittest.TestCase):
    def test_words_are_masked_in_any_case_and_parts_of_words_are_not(self):
        masker = Masker(["heck"])
        self.assertEqual(masker.mask("Oh HECK! I checked.", True)[1], "Oh […]! I checked.")
        self.assertEqual(masker.masked, 1)

    def test_only_what_may_become_one_of_the_words_is_held_back(self):
        done = [Masker(["heck"]).mask(window, False)[0] for window in ["oh he", "oh hex", "oh heck", "oh heck "]]
        self.assertEqual(done, [3, 6, 3, 8])


if __name__ == "__main__":
    unittest.main()
