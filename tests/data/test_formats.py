"""File formats: what is read from good files, and what is said about bad ones."""

from __future__ import annotations

import bz2
import gzip
import json

import pytest

from sweep.data.formats import Layout, read
from sweep.errors import DataError


@pytest.fixture
def file(tmp_path):
    """Writes a file of bytes or text and returns its path."""

    def write(content: bytes | str, name: str = "data.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path, form, **layout):
    return list(read(path, form, Layout(**layout)))


def problem(path, form, **layout) -> str:
    with pytest.raises(DataError) as caught:
        rows(path, form, **layout)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_json_line_is_a_row_with_its_line_number(file):
    assert rows(file('{"a": 1}\n\n{"a": 2}'), "jsonl") == [(1, {"a": 1}), (3, {"a": 2})]


def test_broken_json_is_named_by_its_line(file):
    assert "data.txt:2: found a line that is not JSON" in problem(file('{"a": 1}\n{"a": \n'), "jsonl")


def test_a_json_line_that_is_no_object_is_refused(file):
    assert "data.txt:1: found a JSON list" in problem(file("[1, 2]\n"), "jsonl")


def test_quotes_enclose_fields_in_csv(file):
    content = 'id,text\n1,"a, ""b"" and\nc"\n2,d\n'
    assert rows(file(content), "csv") == [(2, {"id": "1", "text": 'a, "b" and\nc'}), (4, {"id": "2", "text": "d"})]


def test_quotes_are_literal_in_tsv(file):
    assert rows(file('a\tb\n"x\ty"\n'), "tsv") == [(2, {"a": '"x', "b": 'y"'})]


def test_quoting_can_be_set_against_the_formats_habit(file):
    assert rows(file('a\tb\n"x\ty"\tz\n'), "tsv", quoting=True) == [(2, {"a": "x\ty", "b": "z"})]
    assert rows(file('a,b\n"x,y"\n'), "csv", quoting=False) == [(2, {"a": '"x', "b": 'y"'})]


def test_a_file_without_header_takes_the_given_names(file):
    assert rows(file("7,A\n8,B\n"), "csv", header=("id", "gold")) == [
        (1, {"id": "7", "gold": "A"}),
        (2, {"id": "8", "gold": "B"}),
    ]


def test_a_row_of_another_width_is_named_by_its_line(file):
    message = problem(file("a\tb\n1\t2\n1\t2\t3\n"), "tsv")
    assert "data.txt:3: found 3 fields; a row has 2: a, b" in message


def test_an_open_quote_is_named_by_the_line_where_its_row_begins(file):
    assert "data.txt:3: found a row with broken quotes" in problem(file('a,b\n1,2\n"3,4\n5,6\n'), "csv")


def test_a_header_that_names_a_column_twice_is_refused(file):
    assert "same name twice" in problem(file("a,a\n1,2\n"), "csv")


def test_a_byte_order_mark_at_the_start_is_not_text(file):
    assert rows(file(b"\xef\xbb\xbfa\tb\r\n1\t2\r\n"), "tsv") == [(2, {"a": "1", "b": "2"})]


def test_only_line_feeds_end_a_line(file):
    """U+2028, U+0085 and form feeds occur inside sentences."""
    text = "one\u2028two\x85three\x0cfour"
    assert rows(file(text + "\nfive\n"), "lines") == [(1, {"text": text}), (2, {"text": "five"})]


def test_text_is_not_normalised(file):
    decomposed = "e\u0301"
    assert rows(file(decomposed), "lines") == [(1, {"text": decomposed})]


def test_bytes_that_are_not_utf8_are_named_by_line_and_position(file):
    message = problem(file(b"ok\ncaf" + b"\xe9\n"), "lines")
    assert "data.txt:2: found bytes that are not UTF-8 (0xe9 at byte 3 of the line); save the file as UTF-8" in message


@pytest.mark.parametrize(("name", "compress"), [("d.gz", gzip.compress), ("d.bz2", bz2.compress)])
def test_compressed_files_are_read_like_plain_ones(file, name, compress):
    assert rows(file(compress(b"one\ntwo\n"), name), "lines") == [(1, {"text": "one"}), (2, {"text": "two"})]


@pytest.mark.parametrize(
    ("name", "content"), [("d.gz", gzip.compress(b"one\n" * 99, mtime=0)[:-9]), ("d.bz2", b"no bzip")]
)
def test_a_damaged_compressed_file_is_refused(file, name, content):
    assert "found damaged data" in problem(file(content, name), "lines")


def test_an_absent_file_is_refused(tmp_path):
    assert "absent.txt: found no such file" in problem(tmp_path / "absent.txt", "lines")


def test_a_folder_is_no_file(tmp_path):
    assert "found a folder" in problem(tmp_path, "lines")


def test_parquet_rows_are_read_with_their_class_labels_by_name_and_what_names_none_as_it_is(tmp_path):
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B"])),
        }
    )
    tags = [[0, 1], [-1, 1, -100]]
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, -1], "tags": tags}, features=features)
    table.to_parquet(tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet", "parquet") == [
        (1, {"text": "a", "label": "yes", "tags": ["O", "B"]}),
        (2, {"text": "b", "label": -1, "tags": [-1, "B", -100]}),
    ]


def test_parquet_of_another_writer_is_read_as_it_is(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [3]}), tmp_path / "t.parquet")
    assert rows(tmp_path / "t.parquet", "parquet") == [(1, {"text": "a", "label": 3})]


def test_a_column_of_parquet_that_cannot_be_read_is_named(tmp_path):
    import pyarrow
    import pyarrow.parquet

    latin = pyarrow.array([b"ok", b"caf\xe9"], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, latin.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2], "text": text}), tmp_path / "t.parquet")
    message = problem(tmp_path / "t.parquet", "parquet")
    assert "t.parquet:1: found column 'text' of string, which cannot be read ('utf-8' codec" in message


def test_class_labels_of_parquet_that_cannot_be_read_are_named(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"n": [1]}).replace_schema_metadata({"huggingface": "{broken"})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert "t.parquet: found features in its schema's 'huggingface'" in problem(tmp_path / "t.parquet", "parquet")


def test_a_file_that_is_not_parquet_is_refused(file):
    assert "found a file that is not Parquet" in problem(file("a,b\n"), "parquet")


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "It is blue.",
                    "qas": [
                        {"id": "1", "question": "What?", "answers": [{"text": "blue", "answer_start": 6}]},
                        {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}


def test_a_squad_question_is_a_row_with_its_context(file):
    first, second = rows(file(json.dumps(SQUAD)), "squad")
    assert first[1]["context"] == second[1]["context"] == "It is blue."
    assert first[1]["answers"] == [{"text": "blue", "answer_start": 6}]
    assert (first[1]["is_impossible"], second[1]["is_impossible"]) == (False, True)


def test_a_squad_file_that_lacks_a_key_is_named_by_the_place_in_it(file):
    broken = json.loads(json.dumps(SQUAD))
    del broken["data"][0]["paragraphs"][0]["context"]
    assert "data[0].paragraphs[0]: found no 'context'" in problem(file(json.dumps(broken)), "squad")


def test_json_of_another_shape_is_no_squad_file(file):
    assert "SQuAD is data[]" in problem(file("[1]"), "squad")


def test_a_truncated_squad_file_is_refused(file):
    assert "found broken JSON" in problem(file(json.dumps(SQUAD)[:-5]), "squad")


CONLLU = """# sent_id = 1
# text = du Lac
1-2\tdu\t_\t_\t_
1\tde\tde\tADP\tE
2\tle\tle\tDET\tD
2.1\tnothing\t_\tX\t_
3\tLac\tlac\tPROPN\tN

1\tà la\tà la\tADV\tR
"""


def test_words_of_conllu_are_its_lines_with_whole_numbers(file):
    """Ranges (1-2) and empty nodes (2.1) are no words; a word may contain a space; the last blank line may lack."""
    assert rows(file(CONLLU), "conllu", numbers=(2, 4)) == [
        (4, {"2": ["de", "le", "Lac"], "4": ["ADP", "DET", "PROPN"], "# lines": [4, 5, 7]}),
        (9, {"2": ["à la"], "4": ["ADV"], "# lines": [9]}),
    ]


def test_iob2_is_conllu_with_other_columns(file):
    content = "# text = in Tampa\n1\tin\tO\t-\t-\n2\tTampa\tB-LOC\t-\tx\n\n"
    assert rows(file(content), "conllu", numbers=(2, 3)) == [
        (2, {"2": ["in", "Tampa"], "3": ["O", "B-LOC"], "# lines": [2, 3]})
    ]


def test_a_word_line_without_number_is_no_conllu(file):
    message = problem(file("Tampa\tB-LOC\n"), "conllu", numbers=(2, 4))
    assert "data.txt:1: found 'Tampa\\tB-LOC'; a word line begins with its number" in message


def test_a_column_that_is_not_there_is_named_by_line(file):
    assert "data.txt:4: found 5 columns; the description names column 7" in problem(
        file(CONLLU), "conllu", numbers=(2, 7)
    )


def test_two_columns_are_parted_by_tab_or_by_space(file):
    expected = [
        (1, {"1": ["#1", "x"], "2": ["B-A", "O"], "# lines": [1, 2]}),
        (4, {"1": ["y"], "2": ["O"], "# lines": [4]}),
    ]
    assert rows(file("#1\tB-A\nx\tO\n\ny\tO\n"), "conll", numbers=(1, 2)) == expected
    assert rows(file("#1 B-A\nx O\n\ny O\n"), "conll", numbers=(1, 2)) == expected


def test_document_starts_of_conll_2003_are_no_words(file):
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n"
    [(number, row)] = rows(file(content), "conll", numbers=(1, 4))
    assert (number, row["1"], row["4"]) == (3, ["EU"], ["B-ORG"])


def test_a_word_without_tag_is_named_by_line(file):
    assert "data.txt:2: found 1 columns" in problem(file("a O\nb\n"), "conll", numbers=(1, 2))


def test_plain_text_has_a_row_per_line_that_is_not_blank(file):
    assert rows(file("a\n \n\nb"), "lines") == [(1, {"text": "a"}), (4, {"text": "b"})]


def test_line_n_of_one_file_translates_line_n_of_the_other(file):
    one, other = file("a\nb\n", "x.de"), file("A\nB\n", "x.en")
    assert rows(one, "parallel", pair=other) == [(1, {"text": "a", "pair": "A"}), (2, {"text": "b", "pair": "B"})]


def test_parallel_files_of_different_length_are_refused(file):
    one, other = file("a\nb\n", "x.de"), file("A\n", "x.en")
    assert "x.en:2: found fewer lines than in the other file" in problem(one, "parallel", pair=other)


def test_a_block_of_lines_is_a_record(file):
    content = "p\n0\nq\n1\n"
    assert rows(file(content), "blocks", lines=("prompt", "label")) == [
        (1, {"prompt": "p", "label": "0"}),
        (3, {"prompt": "q", "label": "1"}),
    ]


def test_an_incomplete_last_block_is_refused(file):
    message = problem(file("p\n0\nq\n"), "blocks", lines=("prompt", "label"))
    assert "data.txt:3: found the end of the file after 1 lines of a record" in message


def test_words_that_are_numbered_anew_without_a_blank_line_are_refused(file):
    message = problem(file(CONLLU.replace("\n\n", "\n")), "conllu", numbers=(2, 4))
    assert "data.txt:8: found word 1 after word 3; the words of a sentence are numbered" in message


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("\n\n", "\n", "a sentence with the same word number twice"),
        ("1-2", "1-9", "the written word 1-9 in a sentence of the words 1, 2, 3"),
        ("1-2", "2-1", "the written word 2-1"),
        ("1-2", "1-", "the written word 1-"),
        ("1-2", "a-b", "the written word a-b"),
    ],
)
def test_written_words_whose_parts_are_not_there_are_refused(good, bad, said, file):
    wide = "\n".join(line + 5 * "\t_" if "\t" in line else line for line in CONLLU.split("\n"))
    assert rows(file(wide), "conllu-written")[0][1]["words"] == ["du", "Lac"]
    assert f"data.txt:3: found {said}" in problem(file(wide.replace(good, bad, 1)), "conllu-written")


@pytest.mark.parametrize("form", ["jsonl", "squad"])
def test_json_that_nothing_can_hold_is_refused(form, file):
    assert "nested too deeply" in problem(file("[" * 100_000), form)
    assert "surrogates not allowed" in problem(file('{"text": "\\ud800"}'), form)


def test_two_escapes_of_one_character_are_no_halves(file):
    assert rows(file('{"text": "\\ud83e\\udd17"}'), "jsonl") == [(1, {"text": "\U0001f917"})]


def test_a_long_text_is_no_broken_quote(file):
    assert rows(file('text,n\n"' + 200_000 * "a" + '",1\n'), "csv")[0][1]["n"] == "1"


def test_lines_that_end_with_a_carriage_return_alone_are_refused(file):
    assert "data.txt: found lines that end with a carriage return alone" in problem(file("a\tb\rc\td\r"), "tsv")
    assert rows(file("a\rb\nc\n"), "lines") == [(1, {"text": "a\rb"}), (2, {"text": "c"})]


def test_a_squad_file_of_another_structure_says_so(file):
    assert "data.txt: data: found another structure (list indices must be" in problem(file("[]"), "squad")
    assert "data.txt: data: found no 'data'; SQuAD is" in problem(file("{}"), "squad")


def test_compressed_data_that_was_changed_is_named(file):
    packed = bytearray(gzip.compress(b"".join(b"line %d\n" % n for n in range(999)), mtime=0))
    packed[40:60] = bytes(20)
    assert "found damaged data (" in problem(file(bytes(packed), "d.gz"), "lines")
