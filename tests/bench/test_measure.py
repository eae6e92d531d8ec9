"""Tests of what both programs get: python3 -B -m unittest discover -s tests/bench."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import MEBIBYTE, free_hugepages, hugepages  # noqa: E402


class HugepagesTest(unittest.TestCase):
    def setUp(self):
        name = tempfile.TemporaryDirectory()
        self.addCleanup(name.cleanup)
        self.folder = Path(name.name)
        size = self.folder / "hugepages-2048kB"
        size.mkdir()
        self.reserved, self.free = size / "nr_hugepages", size / "free_hugepages"
        self.reserved.write_text("10\n")
        self.free.write_text("4\n")

    def test_what_is_missing_is_reserved_meanwhile(self):
        self.assertEqual(free_hugepages(self.folder), 8 * MEBIBYTE)
        with hugepages(13 * MEBIBYTE, self.folder):
            # Three pages more: the kernel would now say that seven are free.
            self.assertEqual(self.reserved.read_text(), "13")
        self.assertEqual(self.reserved.read_text(), "10")

    def test_they_are_given_back_after_an_error(self):
        with self.assertRaises(ZeroDivisionError), hugepages(100 * MEBIBYTE, self.folder):
            self.assertEqual(self.reserved.read_text(), "56")
            raise ZeroDivisionError
        self.assertEqual(self.reserved.read_text(), "10")

    def test_where_enough_are_free_nothing_is_touched(self):
        with hugepages(8 * MEBIBYTE, self.folder):
            self.assertEqual(self.reserved.read_text(), "10\n")
        self.assertEqual(self.reserved.read_text(), "10\n")

    def test_a_kernel_without_them_is_no_error(self):
        with hugepages(8 * MEBIBYTE, self.folder / "missing"):
            self.assertEqual(free_hugepages(self.folder / "missing"), 0)


if __name__ == "__main__":
    unittest.main()
