"""Names the public files that a study on real data lacks, and where each comes from: `make real`, before it begins.

    python tools/real_data.py search_spaces/real_multilingual.yaml

Nothing is fetched: licences differ, and several allow no commercial use. The list is `real_data.tsv` beside the study.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sweep.config.load import load


def main() -> None:
    """Prints a line for each file or folder that is not below data_root; exit code 2 where there is one."""
    path = Path(sys.argv[1])
    folder = load(path).data_folder
    with path.with_name("real_data.tsv").open(encoding="utf-8", newline="") as file:
        missing = [row for row in csv.DictReader(file, delimiter="\t") if not (folder / row["path"]).exists()]
    if missing:
        expected = "set data_root to the folder that holds these public files, which nothing here fetches by itself"
        print(f"{path}: data_root: found {len(missing)} paths missing in {folder}; {expected}:", file=sys.stderr)
        for row in missing:
            print(f"  {row['path']}: {row['files']}; from {row['source']} ({row['licence']})", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
