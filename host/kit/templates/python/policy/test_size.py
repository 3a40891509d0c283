import unittest

from size import characters


class Size(unittest.TestCase):
    def test_characters_of_all_texts_are_counted(self):
        self.assertEqual(characters(["Hi 🙂", "ß"]), 5)


if __name__ == "__main__":
    unittest.main()
