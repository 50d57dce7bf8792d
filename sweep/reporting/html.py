"""The page: one HTML file that needs nothing else. Pictures come as SVG, numbers as frames; nothing is computed."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweep.planning.settings import BASELINE, CELL, Setting
from sweep.reporting.answers import gain_text
from sweep.reporting.results import setting_in, settings_in

if TYPE_CHECKING:
    import pandas as pd

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #222; font: 16px/1.5 system-ui, 'Helvetica Neue', Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.2rem 1.5rem 4rem; }
h1 { font-size: 1rem; font-weight: 600; color: #666; letter-spacing: .03em; margin: 0 0 .6rem; }
.answer { font-size: 1.65rem; line-height: 1.3; font-weight: 600; margin: 0 0 1.2rem; max-width: 32em; }
.state { color: #555; margin: 0 0 1.5rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .3rem; padding-top: 1rem; border-top: 1px solid #e4e4e4; }
p { max-width: 52em; margin: .3rem 0 .9rem; }
figure { margin: 0; overflow-x: auto; }
figure svg { max-width: 100%; height: auto; display: block; }
table { border-collapse: collapse; font-size: .86rem; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; border-bottom: 1px solid #888; padding: .25rem .9rem .25rem 0; }
td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #eee; white-space: nowrap; }
td.number, th.number { text-align: right; }
.scroll { overflow-x: auto; }
details { margin: .6rem 0; } summary { cursor: pointer; color: #0b5c8a; }
.distrust li { margin: .2rem 0; max-width: 56em; }
.helps { color: #01665e; font-weight: 600; } .hurts { color: #8c510a; font-weight: 600; }
.missing, .undecided { color: #777; }
@media print { details { display: block; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading, what to read from it, a picture (SVG), sentences, and tables (HTML)."""

    title: str
    text: str = ""
    picture: str = ""
    tables: tuple[str, ...] = ()
    points: tuple[str, ...] = ()


def page(study: str, answer: str, state: str, sections: Iterable[Section]) -> str:
    """The whole document. Sections without content are left out."""
    body = "".join(part for section in sections for part in _section(section))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(study)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><main>\n"
        f'<h1>Study {html.escape(study)}</h1>\n<p class="answer">{html.escape(answer)}</p>\n'
        f'<p class="state">{html.escape(state)}</p>\n{body}</main></body></html>\n'
    )


def _section(section: Section) -> Iterator[str]:
    if not (section.picture or any(section.tables) or section.points):
        return
    yield f"<section><h2>{html.escape(section.title)}</h2>\n"
    if section.text:
        yield f"<p>{html.escape(section.text)}</p>\n"
    if section.picture:
        yield f"<figure>{_inline(section.picture)}</figure>\n"
    if section.points:
        yield f'<ul class="distrust">{"".join(f"<li>{html.escape(point)}</li>" for point in section.points)}</ul>\n'
    yield from section.tables
    yield "</section>\n"


def _inline(text: str) -> str:
    # Namespace addresses are for standalone files; inside HTML the parser knows them.
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)


def table(frame: pd.DataFrame, title: str = "") -> str:
    """A frame whose cells are texts already, folded under its title where it has one; "" where it is empty."""
    if frame.empty:
        return ""
    numeric = {name for name in frame if all(_is_number(text) for text in frame[name])}
    head = "".join(_tag("th", str(name), name in numeric) for name in frame)
    rows = []
    for row in frame.to_dict("records"):
        cells = "".join(_tag("td", str(text), name in numeric, str(text)) for name, text in row.items())
        rows.append(f"<tr>{cells}</tr>")
    inner = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n'
    return f"<details><summary>{html.escape(title)}</summary>{inner}</details>\n" if title else inner


def _tag(tag: str, text: str, numeric: bool, verdict: str = "") -> str:
    classes = ["number"] if numeric else []
    classes += {
        "helps": ["helps"],
        "hurts": ["hurts"],
        "missing": ["missing"],
        "no difference shown": ["undecided"],
        "one seed": ["undecided"],
    }.get(verdict, [])
    attribute = f' class="{" ".join(classes)}"' if classes else ""
    return f"<{tag}{attribute}>{html.escape(text)}</{tag}>"


def _is_number(text: object) -> bool:
    return bool(re.fullmatch(r"[+−-]?[\d.,e+-]*( \[.*\])?|–|", str(text)))


def cell_table(cells: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Cells as texts: absolute score and gain with intervals, verdict, counts; and the same without collapsed runs."""
    shaky = len(cells) > 0 and bool((cells["collapsed"] + cells["lost"]).any() or cells["value_without"].notna().any())
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "target": row["target"],
            "intermediate": setting_in(row).name,
            "zero-shot score": _level(row, "value"),
            "gain": "" if row["intermediate"] == BASELINE else gain_text(row),
            "verdict": "" if row["intermediate"] == BASELINE else row["verdict"],
            "seeds": row["seeds"],
            "languages": row["languages"],
            **(_collapsed(row) if shaky else {}),
            "note": "overlap" if row["overlap"] else "",
        }
        for row in _sorted(cells)
    ]
    return _frame(rows)


def _collapsed(row: Mapping[Any, Any]) -> dict[str, object]:
    """How many seeds of a cell collapsed, with scores or without, and what is left without them."""
    seeds, gain = row["seeds"] + row["lost"], {"gain": row["gain_without"], "low": row["gain_without_low"]}
    counted = f"{row['collapsed'] + row['lost']} of {seeds}" + (
        f", {row['lost']} without scores" if row["lost"] else ""
    )
    return {
        "collapsed seeds": counted if row["collapsed"] + row["lost"] else "",
        "score without them": _level(row, "value_without"),
        "gain without them": gain_text({**gain, "high": row["gain_without_high"]}),
    }


def language_table(languages: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Languages as texts."""
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "target": row["target"],
            "language": row["language"] + ("*" if row["is_source"] else ""),
            "intermediate": setting_in(row).name,
            "score": _level(row, "value"),
            "gain": "" if row["intermediate"] == BASELINE else gain_text(row),
            "best constant answer": f"{100 * row['majority']:.1f}",
            "examples": row["examples"],
        }
        for row in _sorted(languages)
    ]
    return _frame(rows)


def group_table(groups: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """One line per cell, one column per group of languages; empty where the study names no groups."""
    if groups.empty or groups["group"].nunique() < 2:
        return _frame([])
    rows = []
    for name, members in groups.groupby(list(CELL), sort=False):
        encoder, *named, target = map(str, name)
        setting = Setting(*named)
        if setting.baseline:
            continue
        first = {"encoder": encoders[encoder]} if len(encoders) > 1 else {}
        gains = {f"{row['group']} ({row['languages']})": gain_text(row) for row in members.to_dict("records")}
        rows.append({**first, "target": target, "intermediate": setting.name, **gains})
    return _frame(rows)


def contrast_table(contrasts: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """One line per cell and what it is compared with."""
    rows = [
        {
            **({"encoder": encoders[row["encoder"]]} if len(encoders) > 1 else {}),
            "target": row["target"],
            "intermediate": setting_in(row).name,
            "against": row["against"],
            "gain": gain_text(row),
            "verdict": row["verdict"],
            "seeds": row["paired"],
            "languages": row["languages"],
            "note": "overlap" if row["overlap"] else "",
        }
        for row in _sorted(contrasts)
    ]
    return _frame(rows)


def tuning_table(tuning: pd.DataFrame, encoders: Mapping[str, str]) -> pd.DataFrame:
    """Tuning candidates as texts; the dev score is in points."""
    if tuning.empty:
        return tuning
    shown = tuning.copy().astype(object)
    shown["intermediate"] = [setting.name for setting in settings_in(tuning)]
    shown = shown.drop(columns=[name for name in Setting._fields if name != "intermediate"])
    for name in [name for name in tuning if str(name).startswith("lr.")]:
        shown[name] = [_number(rate, ".3g") for rate in tuning[name]]
    shown["dev"] = [_number(100 * dev, ".1f") for dev in tuning["dev"].astype(float)]
    shown["selected"] = ["yes" if chosen else "" for chosen in tuning["selected"]]
    shown["encoder"] = [encoders[name] for name in tuning["encoder"]]
    return shown if len(encoders) > 1 else shown.drop(columns="encoder")


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)


def _level(row: Mapping[Any, Any], name: str) -> str:
    if row[name] != row[name]:
        return "–"
    return f"{100 * row[name]:.1f} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"


def _sorted(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Records by encoder, then target; settings keep their order."""
    records: list[dict[Any, Any]] = frame.to_dict("records")
    return sorted(records, key=lambda row: (row["encoder"], row["target"], row.get("language", "")))


def _frame(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows)
