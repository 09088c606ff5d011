"""The pages of a board as text; whatever a record says is escaped: it may be a stranger's."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from morl.experiments.config import RunSettings, command_of, flat
from morl.experiments.leaderboard import charts
from morl.experiments.leaderboard.ledger import Board
from morl.experiments.leaderboard.published import Published, published_rows
from morl.experiments.leaderboard.rows import Row, Rows
from morl.experiments.leaderboard.standings import (
    MOST_COMPARED,
    PRIMARY,
    RANKED_FROM,
    EntryOnTask,
    EntryOverall,
    Standings,
    Summary,
    TaskTable,
)
from morl.experiments.leaderboard.svg import colour_class, shown, text_of
from morl.experiments.leaderboard.verification import TIERS
from morl.experiments.leaderboard.videos import Picture, Role, Video, showcase
from morl.storage import json_bytes

MOST_POINTS = 6_000
"""Policies that one explorer holds; beyond it only the typical run of each row."""

MOST_REFUSALS = 1_000
"""Refusals that the overview lists one by one."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")

COLUMNS = (
    ("hypervolume", "hypervolume ↑"),
    ("hypervolume_jackknife", "corrected ↑"),
    ("expected_utility", "expected utility ↑"),
    ("hypervolume_ratio", "of known front ↑"),
    ("igd_plus", "IGD+ ↓"),
    ("cardinality", "policies"),
    ("sparsity_deduplicated", "sparsity"),
)
"""Columns of a task's table; an arrow says what is better, the others are not for ranking."""

HINTS = {
    "hypervolume": "volume dominated above the reference point; the ranks are by this",
    "hypervolume_jackknife": "hypervolume without the bias of noisy episodes",
    "expected_utility": "mean over all linear preferences",
    "hypervolume_ratio": "share of the hypervolume of the known front",
    "igd_plus": "mean shortfall from the known front",
    "cardinality": "distinct policies on the front; never ranked",
    "sparsity_deduplicated": "as in papers; never ranked",
}


def slug(name: str) -> str:
    """A file name for any name: equal for equal names, different for others, harmless."""
    if _PLAIN.fullmatch(name):
        return name
    plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.")[:40]
    return f"{plain or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def run_page(run_id: str) -> str:
    """File name of a run's page."""
    return f"{run_id[:16]}.html"


@dataclass(frozen=True)
class Site:
    """All pages of a board.

    Attributes:
        board: the board.
        rows: what it holds.
        standings: what follows from that.
    """

    board: Board
    rows: Rows
    standings: Standings

    @cached_property
    def colours(self) -> Mapping[str, str]:
        """Class of the colour of each row, the same on all pages."""
        return {name: colour_class(index) for index, name in enumerate(self.standings.entries)}

    def files(self) -> Iterable[tuple[str, bytes]]:
        """Name and content of every page, one after the other."""
        yield "index.html", self._page("", self._title, self._overview()).encode()
        for name, table in self.standings.tables.items():
            yield f"task-{slug(name)}.html", self._page("", name, self._task(table)).encode()
        for entry in self.standings.entries:
            yield f"agent-{slug(entry)}.html", self._page("", entry, self._agent(entry)).encode()
        for row in self.rows.shown:
            title = f"{row.entry}, {row.task}, seed {row.seed}"
            page = self._page("../", title, self._run(row))
            yield f"runs/{run_page(row.run_id)}", page.encode()
            yield from self._pictures(row)
        yield "leaderboard.json", json_bytes(self._summary(), indent=1) + b"\n"

    @property
    def _title(self) -> str:
        return str(self.board.suite["title"])

    def _page(self, up: str, title: str, body: str) -> str:
        links = "".join(
            f'<li><a href="{up}task-{slug(name)}.html">{text_of(name)}</a></li>'
            for name in self.board.tasks
        )
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'self' file:; script-src 'self' file:; img-src 'self' file: data:\">\n"
            f"<title>{text_of(title)} · {text_of(self._title)}</title>\n"
            f'<link rel="stylesheet" href="{up}assets/board.css">\n'
            f'<script src="{up}assets/board.js" defer></script>\n</head>\n<body>\n'
            '<a class="skip" href="#main">To the content</a>\n'
            f'<header><nav aria-label="Pages"><a class="home" href="{up}index.html">'
            f"{text_of(self._title)}</a><ul>{links}</ul></nav></header>\n"
            f'<main id="main">\n{body}\n</main>\n<footer><p>Suite {text_of(self.board.label)}. '
            "Intervals are 95 % bootstrap intervals around the interquartile mean over seeds. "
            f'<a href="{up}index.html#how">How to read this</a></p></footer>\n</body>\n</html>\n'
        )

    # The overview

    def _overview(self) -> str:
        runs = self.rows.shown
        failed = sum(not row.completed for row in runs)
        facts = [
            _count(len(runs), "run"),
            _count(len(self.standings.entries), "row"),
            _count(len(self.board.tasks), "task"),
            *([f"{failed} failed"] if failed else []),
            *([f"{len(self.rows.refused)} refused"] if self.rows.refused else []),
            *([_count(self.rows.torn, "torn line")] if self.rows.torn else []),
        ]
        parts = [
            f"<h1>{text_of(self._title)}</h1>",
            f"<p>{text_of(self.board.suite['description'])}</p>",
            f'<p class="facts">{text_of(" · ".join(facts))}</p>',
            _card("All tasks", self._overall(), "overall"),
            _card("Task by task", self._winners(), "tasks"),
            _card("How to read this", HOW_TO_READ, "how"),
            self._refusals(),
        ]
        return "\n".join(part for part in parts if part)

    def _overall(self) -> str:
        overall = self.standings.overall
        if not overall.entries:
            return "<p>No row has a run on every task yet.</p>"
        body = "".join(self._overall_row(row) for row in overall.entries)
        head = _head(
            [
                ("rank", "number"), ("row", ""), ("mean rank", "number"), ("score", "number"),
                ("95 % interval", "number"), ("groups", ""), ("seeds", "number"),
            ]
        )  # fmt: skip
        parts = [_filter("overall-table"), _table("overall-table", head, body)]
        if overall.incomplete:
            listed = "; ".join(
                f"{name} ({len(tasks)} of {len(self.board.tasks)} tasks)"
                for name, tasks in overall.incomplete.items()
            )
            parts.append(f'<p class="hint">Not in this table: {text_of(listed)}.</p>')
        drawn = [
            _figure(charts.difference_chart(overall, self.colours), "Rows joined by a bar do not "
                    "differ significantly (rank sums over all tasks, Holm's correction)."),
            _figure(charts.profile_chart(overall, self.colours), "Share of all runs whose score is "
                    "above a value; a score of 1 is the known front. Bands hold whole curves."),
        ]  # fmt: skip
        parts.append(self._legend([row.name for row in overall.entries][: charts.MOST_LINES]))
        parts.append(f'<div class="charts">{"".join(drawn)}</div>')
        parts.append(self._improvement())
        return "".join(parts)

    def _overall_row(self, row: EntryOverall) -> str:
        score = row.score
        return (
            f"<tr>{_rank_cell(row.rank, row.standing)}{self._name_cell(row.name)}"
            f"{_number_cell(row.mean_rank, f'{row.mean_rank:.2f}')}"
            f"{_number_cell(None if score is None else score.estimate)}"
            f"{_interval_cell(None if score is None else (score.low, score.high))}"
            f"<td>{text_of(row.group)}</td>{_number_cell(row.seeds)}</tr>"
        )

    def _improvement(self) -> str:
        """Chance that a run of a row beats one of a column."""
        overall = self.standings.overall
        names = list(dict.fromkeys(name for pair in overall.improvement for name in pair))
        if len(names) < 2:
            return ""
        head = "".join(f'<th scope="col" class="number">{text_of(name)}</th>' for name in names)
        lines = []
        for one in names:
            cells = "".join(self._improvement_cell(one, two) for two in names)
            lines.append(f'<tr><th scope="row">{text_of(one)}</th>{cells}</tr>')
        return (
            "<h3>Probability of improvement</h3>"
            '<p class="hint">Chance that a run of the row beats a run of the column, mean over '
            "tasks, ties counting half; 95 % interval.</p>"
            f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )

    def _improvement_cell(self, one: str, two: str) -> str:
        found = self.standings.overall.improvement
        if one == two:
            return '<td class="number soft">·</td>'
        if (one, two) in found:
            chance = found[(one, two)]
            value, low, high = chance.estimate, chance.low, chance.high
        else:
            chance = found[(two, one)]
            value, low, high = 1 - chance.estimate, 1 - chance.high, 1 - chance.low
        strength = "strong" if low > 0.5 else "weak" if high < 0.5 else ""
        return (
            f'<td class="number {strength}">{value:.2f} <small>{low:.2f} to {high:.2f}</small></td>'
        )

    def _winners(self) -> str:
        lines = []
        for name, table in self.standings.tables.items():
            best = [entry for entry in table.entries if entry.rank == 1]
            others = [entry for entry in table.entries if entry.rank is None]
            known, steps = table.task["known_front"], table.task["steps"]
            names = ", ".join(self._link(entry.name) for entry in best) or "-"
            lines.append(
                f'<tr><th scope="row"><a href="task-{slug(name)}.html">{text_of(name)}</a></th>'
                f"<td>{names}</td>"
                f"{_number_cell(best[0].summaries[PRIMARY].centre if best else None)}"
                f"{_number_cell(known['hypervolume'] if known else None)}"
                f"{_number_cell(len(table.entries))}{_number_cell(len(others))}"
                f"{_number_cell(steps, f'{steps:,}')}</tr>"
            )
        head = _head(
            [
                ("task", ""), ("rank 1", ""), ("hypervolume", "number"), ("known front", "number"),
                ("rows", "number"), ("unranked", "number"), ("steps", "number"),
            ]
        )  # fmt: skip
        return _table("task-table", head, "".join(lines))

    def _refusals(self) -> str:
        refused = self.rows.refused
        if not refused and not self.rows.torn:
            return ""
        items = "".join(
            f"<li><b>{text_of(each.what)}</b>: {text_of(each.reason)}</li>"
            for each in refused[:MOST_REFUSALS]
        )
        more = len(refused) - MOST_REFUSALS
        rest = f"<p>and {more:,} more</p>" if more > 0 else ""
        torn = (
            f"<p>{_count(self.rows.torn, 'line')} of the ledger torn by a crash and skipped.</p>"
            if self.rows.torn
            else ""
        )
        return _card("Not shown", f'{torn}<ul class="refusals">{items}</ul>{rest}', "refused")

    # A task

    def _task(self, table: TaskTable) -> str:
        parts = [
            f"<h1>{text_of(table.name)}</h1>",
            f"<p>{text_of(table.task['description'])}</p>" if table.task["description"] else "",
            f'<p class="facts">{text_of(" · ".join(_protocol(table.task)))}</p>',
            _card("Ranking", self._ranking(table), "ranking"),
        ]
        if charts.drawn(table):
            parts.append(_card("Front explorer", self._front_explorer(table), "front"))
            parts.append(_card("Learning", self._learning(table), "learning"))
        parts += [
            _card("Published elsewhere", _published(published_rows(table.task["id"])), "published"),
            _card("Runs", self._runs([run for entry in table.entries for run in entry.runs],
                                     "run-table", name="entry"), "runs"),
        ]  # fmt: skip
        return "\n".join(part for part in parts if part)

    def _ranking(self, table: TaskTable) -> str:
        columns = [
            (indicator, title)
            for indicator, title in COLUMNS
            if indicator == PRIMARY or any(indicator in entry.summaries for entry in table.entries)
        ]
        heads = [("rank", "number"), ("row", ""), ("groups", ""), ("seeds", "number")]
        heads += [("verified", "")]
        heads += [(title, "number") for _, title in columns]
        heads += [("steps", "number"), ("CPU time", "number")]
        body = "".join(self._ranking_row(entry, columns) for entry in table.entries)
        body += "".join(
            _anchor_row(name, level, columns) for name, level in anchors(table.task).items()
        )
        hints = "; ".join(f"{title.strip(' ↑↓')}: {HINTS[name]}" for name, title in columns)
        notes = "".join(f'<p class="note">{text_of(note)}</p>' for note in self._notes(table))
        chart = charts.interval_chart(table, anchors(table.task), self.colours)
        surfaces = charts.attainment_chart(table, titles(table.task), self.colours)
        shown_rows = [entry.name for entry in charts.drawn(table)]
        return (
            f"{notes}{_filter('ranking-table')}{_table('ranking-table', _head(heads), body)}"
            f'<p class="hint">{text_of(hints)}. Interquartile means over seeds, intervals below '
            f"them; failures count with a hypervolume of 0.</p>"
            f'{self._legend(shown_rows)}<div class="charts">'
            + _figure(chart, "Interquartile mean, its interval, and every seed below it.")
            + _figure(
                surfaces,
                "What the median seed attains; the band is from all seeds to any. "
                "Circles are the known front.",
            )
            + "</div>"
        )

    def _ranking_row(self, entry: EntryOnTask, columns: Sequence[tuple[str, str]]) -> str:
        failed = f" <small>+ {len(entry.failed)} failed</small>" if entry.failed else ""
        cells = "".join(_summary_cell(entry.summaries.get(name)) for name, _ in columns)
        budgets = [run.record["budget"] for run in entry.completed]
        cpu = sum(each["cpu_s"] for each in budgets) / len(budgets) if budgets else None
        steps = max((each["env_steps"] for each in budgets), default=None)
        return (
            f"<tr>{_rank_cell(entry.rank, entry.standing)}{self._name_cell(entry.name)}"
            f"<td>{text_of(entry.group)}</td>"
            f'<td class="number" data-value="{len(entry.runs)}">{len(entry.completed)}{failed}</td>'
            f"<td>{text_of(_tiers(entry.runs))}</td>{cells}"
            f"{_number_cell(steps, None if steps is None else f'{steps:,}')}"
            f"{_number_cell(cpu, None if cpu is None else _duration(cpu))}</tr>"
        )

    def _notes(self, table: TaskTable) -> list[str]:
        found = []
        beatable = {
            name: level
            for name, level in table.task["anchors"].items()
            if not any(word in name for word in ("exact", "front", "best"))
        }
        for entry in table.entries:
            volume = entry.summaries[PRIMARY].centre
            found += [
                f"{entry.name} does not beat {name!r} ({shown(volume)} against {shown(level)})"
                for name, level in beatable.items()
                if volume <= level * (1 + 1e-9) and entry.name.replace("_", "-") != name
            ]
        return found

    def _front_explorer(self, table: TaskTable) -> str:
        runs = [run for entry in charts.drawn(table) for run in entry.completed]
        typical = {entry.typical.run_id for entry in charts.drawn(table) if entry.typical}
        if sum(len(run.points) for run in runs) > MOST_POINTS:
            runs = [run for run in runs if run.run_id in typical]
        known = table.task["known_front"]
        data = {
            "objectives": titles(table.task),
            "known": known["points"] if known else [],
            "series": [
                {
                    "name": run.entry,
                    "seed": run.seed,
                    "typical": run.run_id in typical,
                    "colour": self.colours[run.entry],
                    "page": f"runs/{run_page(run.run_id)}",
                    "points": run.points,
                }
                for run in runs
            ],
        }
        return _explorer(data, seeds=len(runs) > len(typical))

    def _learning(self, table: TaskTable) -> str:
        drawn = []
        for clock in (False, True):
            for column, title in (("hypervolume", "hypervolume"), ("expected_utility", "utility")):
                drawn.append(
                    _figure(
                        charts.curve_chart(table, column, self.colours, clock=clock, title=title),
                        "",
                    )
                )
        names = [entry.name for entry in charts.drawn(table)]
        if not any(drawn):
            return "<p>No run has a learning curve.</p>"
        return (
            f'{self._legend(names)}<div class="charts">{"".join(drawn)}</div>'
            '<p class="hint">On few selection episodes while learning. Seconds depend on the '
            "machine and on what else it did.</p>"
        )

    def _runs(self, runs: Sequence[Row], name_of_table: str, *, name: str, up: str = "") -> str:
        lines = []
        for run in runs:
            other = run.entry if name == "entry" else run.task
            metrics = run.metrics
            status = "completed" if run.completed else run.status
            status += ", with videos" if run.videos else ""
            lines.append(
                f'<tr><td><a href="{up}runs/{run_page(run.run_id)}">'
                f"{text_of(run.run_id[:12])}</a></td>"
                f"<td>{text_of(other)}</td>{_number_cell(run.seed)}"
                f"{_number_cell(metrics[PRIMARY][0] if run.completed else None)}"
                f"{_number_cell(len(run.points))}"
                f"<td>{text_of(run.tier or 'self-reported')}</td>"
                f'<td class="status">{text_of(status[:200])}</td></tr>'
            )
        head = _head(
            [
                ("run", ""), ("row" if name == "entry" else "task", ""), ("seed", "number"),
                ("hypervolume", "number"), ("policies", "number"), ("verified", ""),
                ("status", ""),
            ]
        )  # fmt: skip
        return _filter(name_of_table) + _table(name_of_table, head, "".join(lines))

    # An agent

    def _agent(self, name: str) -> str:
        found = {
            task: entry
            for task, table in self.standings.tables.items()
            for entry in table.entries
            if entry.name == name
        }
        runs = [run for entry in found.values() for run in entry.runs]
        lines = []
        for task, entry in found.items():
            lines.append(
                f'<tr><th scope="row"><a href="task-{slug(task)}.html">{text_of(task)}</a></th>'
                f"{_rank_cell(entry.rank, entry.standing)}{_number_cell(len(entry.runs))}"
                f"{_number_cell(len(entry.failed))}{_summary_cell(entry.summaries.get(PRIMARY))}"
                f"{_summary_cell(entry.summaries.get('expected_utility'))}"
                f"<td>{text_of(entry.group)}</td></tr>"
            )
        head = _head(
            [
                ("task", ""), ("rank", "number"), ("seeds", "number"), ("failed", "number"),
                ("hypervolume", "number"), ("expected utility", "number"), ("groups", ""),
            ]
        )  # fmt: skip
        settings = "".join(
            f"<details><summary>{text_of(task)}</summary><pre>"
            f"{text_of(_settings(entry.runs[0].record['config']))}</pre></details>"
            for task, entry in found.items()
        )
        algo = runs[0].record["algo"]
        versions = sorted({str(run.record["algo"].get("version")) for run in runs})
        facts = [
            f"agent {algo.get('name')}",
            f"from {algo.get('entry_point')}",
            f"version {', '.join(versions)}",
        ]
        return "\n".join(
            [
                f"<h1>{text_of(name)}</h1>",
                f'<p class="facts">{text_of(" · ".join(facts))}</p>',
                _card("Standings", _table("standing-table", head, "".join(lines)), "standings"),
                _card("Settings", settings, "settings"),
                _card("Runs", self._runs(runs, "run-table", name="task"), "runs"),
            ]
        )

    # A run

    def _run(self, run: Row) -> str:
        task = self.board.tasks[run.task]
        parts = [
            f"<h1>{text_of(run.entry)}, seed {run.seed}</h1>",
            f'<p class="facts"><a href="../task-{slug(run.task)}.html">{text_of(run.task)}</a> · '
            f'<a href="../agent-{slug(run.entry)}.html">{text_of(run.entry)}</a> · '
            f"{text_of(run.tier or 'self-reported')}</p>",
        ]
        if not run.completed:
            parts.append(f'<p class="note">{text_of(run.status)}</p>')
        if run.points:
            parts.append(
                _card("Which policy for which preference?", self._choice(run, task), "pick")
            )
            parts.append(_card("Videos", _videos(run, task), "videos"))
            parts.append(_card("Indicators", _indicators(run), "indicators"))
        parts.append(_card("Where it comes from", self._provenance(run), "provenance"))
        return "\n".join(parts)

    def _choice(self, run: Row, task: Mapping[str, Any]) -> str:
        names = [name for name, _ in task["objectives"]]
        known = task["known_front"]
        data = {
            "objectives": titles(task),
            "known": known["points"] if known else [],
            "series": [
                {
                    "name": run.entry, "seed": run.seed, "typical": True,
                    "colour": self.colours[run.entry], "points": run.points,
                    "errors": run.errors, "undiscounted": run.undiscounted,
                }
            ],
        }  # fmt: skip
        lines = "".join(
            f'<tr><th scope="row">{text_of(title)}</th><td class="number"></td>'
            '<td class="number"></td><td class="number"></td>'
            '<td><progress max="1" value="0" aria-hidden="true"></progress></td></tr>'
            for title in titles(task)
        )
        table = (
            '<div class="scroll"><table class="chosen"><thead><tr><th scope="col">objective</th>'
            '<th scope="col" class="number">weight</th><th scope="col" class="number">discounted '
            'return</th><th scope="col" class="number">undiscounted</th><th scope="col">worst to '
            f"best</th></tr></thead><tbody>{lines}</tbody></table></div>"
        )
        chooser = (
            f'<div class="chooser">{_sliders(names)}<p class="policy" aria-live="polite"></p>'
            f"{table}</div>"
        )
        return _explorer(data, seeds=False, before=chooser)

    def _provenance(self, run: Row) -> str:
        record = run.record
        budget, provenance, env = record["budget"], record["provenance"], record["env"]
        algo, wall, cpu = record["algo"], budget["wall_s"], budget["cpu_s"]
        packages = provenance.get("packages")
        facts = {
            "verified": "; ".join(
                f"{tier}: {message}" for tier, message in (run.checked_by or {}).items()
            )
            or "self-reported",
            "run": run.run_id,
            "steps": f"{budget['env_steps']:,} of training, {budget['eval_env_steps']:,} of "
            "evaluation",
            "time": f"{_duration(wall)} on the wall, {_duration(cpu)} of CPU",
            "agent": f"{algo.get('entry_point')}, version {algo.get('version')}",
            "environment": f"{env.get('package')} {env.get('version')}",
            "code": f"commit {provenance.get('git_sha')}"
            + (", with changes" if provenance.get("git_dirty") else ""),
            "python": provenance.get("python"),
            "packages": ", ".join(f"{n} {v}" for n, v in sorted(packages.items()))
            if isinstance(packages, dict)
            else "",
            "machine": f"{provenance.get('cpu')}, {provenance.get('os')}",
            "configuration": f"SHA-256 {provenance.get('config_sha256')}",
        }
        lines = "".join(
            f'<tr><th scope="row">{text_of(name)}</th><td class="wrap">{text_of(fact)}</td></tr>'
            for name, fact in facts.items()
            if fact
        )
        return (
            f"<pre>{text_of(_command(record['config']))}</pre>"
            f'<div class="scroll"><table><tbody>{lines}</tbody></table></div>'
            "<details><summary>All settings</summary>"
            f"<pre>{text_of(_settings(record['config']))}</pre></details>"
        )

    def _pictures(self, run: Row) -> Iterable[tuple[str, bytes]]:
        """Files of a run's videos, whose hashes are checked once more."""
        if run.videos:
            folder = self.board.run_folder(run.run_id, run.result_sha256)
            for video in run.videos:
                yield f"runs/{_picture_file(run, video.moving)}", video.moving.read(folder)
                yield f"runs/{_picture_file(run, video.still)}", video.still.read(folder)

    # For machines

    def _summary(self) -> dict[str, Any]:
        return {
            "schema": "morl-leaderboard-site/1",
            "suite": dict(self.board.suite),
            "runs": len(self.rows.shown),
            "torn": self.rows.torn,
            "refused": [{"what": each.what, "reason": each.reason} for each in self.rows.refused],
            "overall": [
                {
                    "entry": row.name, "rank": row.rank, "standing": row.standing,
                    "seeds": row.seeds, "mean_rank": row.mean_rank,
                    "score": None if row.score is None
                    else [row.score.estimate, row.score.low, row.score.high],
                }
                for row in self.standings.overall.entries
            ],
            "tasks": {name: _task_summary(table) for name, table in self.standings.tables.items()},
        }  # fmt: skip

    # Pieces that need the colours

    def _link(self, name: str) -> str:
        return f'<a href="agent-{slug(name)}.html">{text_of(name)}</a>'

    def _name_cell(self, name: str) -> str:
        swatch = f'<span class="swatch {self.colours[name]}"></span>'
        return f'<th scope="row" data-value="{text_of(name)}">{swatch}{self._link(name)}</th>'

    def _legend(self, names: Sequence[str]) -> str:
        items = "".join(
            f'<li><span class="swatch {self.colours[name]}"></span>{text_of(name)}</li>'
            for name in names
        )
        return f'<ul class="legend">{items}</ul>'


HOW_TO_READ = f"""\
<ul>
<li>A <b>rank</b> is one more than the number of rows that are significantly better: rank sums
(Mann and Whitney; over several tasks van Elteren), Holm's correction for all pairs of the table,
5 %. Rows of one <b>group</b> letter do not differ.</li>
<li>{RANKED_FROM} seeds make a rank; from 5 it is provisional (marked with ?); fewer make none.</li>
<li>Runs that <b>failed</b> count with a hypervolume of 0 and stay in the table.</li>
<li>A <b>score</b> is the normalised hypervolume in units of the known front's, or of the whole box
where no front is known. Box and front are fixed with the suite, whoever takes part.</li>
<li><b>Verified</b>: <i>recomputed</i> - every indicator follows from the stored episode returns;
<i>re-evaluated</i> - the stored policies have played the report episodes again; <i>re-run</i> - the
run was trained again from its record.</li>
<li>Rows in grey are anchors: known fronts and trivial policies. Published figures stand apart, each
under its own protocol.</li>
</ul>"""


def titles(task: Mapping[str, Any]) -> list[str]:
    """Names of the objectives with their units."""
    return [f"{name} ({unit})" if unit else name for name, unit in task["objectives"]]


def anchors(task: Mapping[str, Any]) -> dict[str, float]:
    """Anchors of a task, its known front among them."""
    found = {name: float(level) for name, level in task["anchors"].items()}
    known = task["known_front"]
    if known is not None and not any(
        abs(level - known["hypervolume"]) <= 1e-3 * abs(level) for level in found.values()
    ):
        found[f"known front ({known['certificate']})"] = known["hypervolume"]
    return found


def _protocol(task: Mapping[str, Any]) -> list[str]:
    facts = [
        task["id"],
        *(f"{key} = {value}" for key, value in task["kwargs"].items()),
        f"protocol {task['protocol']}",
        f"discount {task['discount']:g}",
        "no step limit" if task["horizon"] is None else f"at most {task['horizon']} steps",
        f"reference point {_point(task['reference_point'])}",
        f"{task['steps']:,} steps of training",
        f"{task['selection_episodes']} selection and {task['report_episodes']} report episodes",
        task["package"] + (f" {task['package_version']}" if task["package_version"] else ""),
    ]
    if task["box_low"] is not None:
        box = f"box {_point(task['box_low'])} to {_point(task['box_high'])}"
        facts.append(f"{box}: {task['box_source']}" if task["box_source"] else box)
    return facts


def _point(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"


def _card(title: str, content: str, name: str) -> str:
    if not content:
        return ""
    return (
        f'<section class="card" id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{text_of(title)}</h2>{content}</section>'
    )


def _head(columns: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f'<th scope="col" class="{css}">'
        f'<button type="button" class="sort">{text_of(title)}</button></th>'
        for title, css in columns
    )
    return f"<tr>{cells}</tr>"


def _table(name: str, head: str, body: str) -> str:
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table id="{name}" '
        f'class="sortable"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _filter(table: str) -> str:
    return (
        '<label class="filter">Filter <input type="search" '
        f'data-table="{table}" placeholder="a word in a row"></label>'
    )


def _figure(markup: str | None, caption: str) -> str:
    if markup is None:
        return ""
    below = f"<figcaption>{text_of(caption)}</figcaption>" if caption else ""
    return f"<figure>{markup}{below}</figure>"


def _rank_cell(rank: int | None, standing: str) -> str:
    if rank is None:
        return '<td class="number soft" data-value="1e9" title="unranked: too few seeds">-</td>'
    if standing == "provisional":
        return f'<td class="number" data-value="{rank}" title="provisional">{rank}?</td>'
    return f'<td class="number rank" data-value="{rank}">{rank}</td>'


def _number_cell(value: float | None, text: str | None = None) -> str:
    if value is None:
        return '<td class="number soft" data-value="">-</td>'
    return f'<td class="number" data-value="{value!r}">{text_of(text or shown(value))}</td>'


def _interval_cell(ends: tuple[float, float] | None) -> str:
    if ends is None:
        return '<td class="number soft" data-value="">-</td>'
    low, high = ends
    return f'<td class="number" data-value="{low!r}">{shown(low, 4)} to {shown(high, 4)}</td>'


def _summary_cell(summary: Summary | None) -> str:
    if summary is None:
        return _number_cell(None)
    below = ""
    if summary.interval is not None:
        below = f"{shown(summary.interval.low, 5)} to {shown(summary.interval.high, 5)}"
    elif summary.episode_error is not None:
        below = f"± {shown(1.959964 * summary.episode_error, 2)} (episodes)"
    title = f"mean {shown(summary.mean)}, median {shown(summary.median)}, {summary.count} seeds"
    small = f"<br><small>{below}</small>" if below else ""
    return (
        f'<td class="number" data-value="{summary.centre!r}" title="{title}">'
        f"{shown(summary.centre)}{small}</td>"
    )


def _anchor_row(name: str, level: float, columns: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        _number_cell(level) if indicator == PRIMARY else _number_cell(None)
        for indicator, _ in columns
    )
    blank = "<td></td>"
    return (
        f'<tr class="anchor-row"><td class="number" data-value="1e9"></td>'
        f'<th scope="row" data-value="{text_of(name)}">{text_of(name)}</th>'
        f"{blank}{_number_cell(None)}<td>anchor</td>{cells}{blank * 2}</tr>"
    )


def _published(rows: Sequence[Published]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{text_of(row.agent)}</th><td class="number">{text_of(row.value)}'
        f"{f' <small>sd {text_of(row.sd)}</small>' if row.sd else ''}</td>"
        f'<td class="number">{text_of(row.seeds or "-")}</td>'
        f'<td class="wrap">{text_of(row.environment)}; {text_of(row.protocol)}; '
        f'{text_of(row.budget)}</td><td class="wrap">{text_of(row.source)}</td></tr>'
        for row in rows
    )
    return (
        '<p class="hint">Hypervolumes under protocols of their own: not comparable with the table '
        'above, nor with each other.</p><div class="scroll"><table class="published"><thead><tr>'
        '<th scope="col">agent</th><th scope="col" class="number">hypervolume</th>'
        '<th scope="col" class="number">seeds</th><th scope="col">protocol</th>'
        f'<th scope="col">source</th></tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _videos(run: Row, task: Mapping[str, Any]) -> str:
    """A still of each video; the animation is loaded and plays while its still is opened."""
    if not run.videos:
        return ""
    roles = showcase(run.points)
    films = "".join(_video(run, video, roles.get(video.policy), task) for video in run.videos)
    return (
        '<p class="hint">One episode of the best policy for each objective, and of the knee: the '
        "policy nearest to the best of everything, each objective scaled to the range of this "
        "front. Open a picture to play it, close it to stop. Long episodes leave out frames; one "
        f'episode is not the mean.</p><div class="films">{films}</div>'
    )


def _video(run: Row, video: Video, role: Role | None, task: Mapping[str, Any]) -> str:
    label = f"Policy {video.policy}"
    why = _why(role, [name for name, _ in task["objectives"]])
    moving, still = _picture_file(run, video.moving), _picture_file(run, video.still)
    size = f'width="{video.width}" height="{video.height}" loading="lazy"'
    where = text_of(f"{label} in {run.task}")
    lines = "".join(
        f'<tr><th scope="row">{text_of(title)}</th>{_number_cell(discounted)}'
        f"{_number_cell(undiscounted)}</tr>"
        for title, discounted, undiscounted in zip(
            titles(task), video.discounted, video.undiscounted, strict=True
        )
    )
    return (
        f'<figure class="film"><details><summary><img src="{still}" {size} '
        f'alt="{where}: the end of the episode"><span class="play">'
        f"{text_of(f'{label}: {why}' if why else label)}</span></summary>"
        f'<img src="{moving}" {size} alt="{where} plays an episode of {video.steps} steps">'
        f"</details><figcaption>{_count(video.steps, 'step')}, seed {video.seed}</figcaption>"
        '<div class="scroll"><table><thead><tr><th scope="col">this episode</th>'
        '<th scope="col" class="number">discounted</th><th scope="col" class="number">undiscounted'
        f"</th></tr></thead><tbody>{lines}</tbody></table></div></figure>"
    )


def _why(role: Role | None, names: Sequence[str]) -> str:
    """Why a policy is shown, in words."""
    if role is None:
        return ""
    best = [names[axis] for axis in role.best_in]
    parts = [f"best in {', '.join(best)}"] if best else []
    return "; ".join([*parts, *(["knee"] if role.knee else [])])


def _picture_file(run: Row, picture: Picture) -> str:
    """Name of a picture beside the page of its run."""
    return f"{run.run_id[:16]}-{picture.name.rpartition('/')[2]}"


def _indicators(run: Row) -> str:
    lines = "".join(
        f'<tr><th scope="row">{text_of(name.replace("_", " "))}</th>{_number_cell(value)}'
        f'<td class="number">{"" if error is None else f"± {shown(error, 3)}"}</td></tr>'
        for name, (value, error) in sorted(run.metrics.items())
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">indicator</th><th scope="col" '
        'class="number">value</th><th scope="col" class="number">standard error over episodes</th>'
        f"</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _explorer(data: Mapping[str, Any], *, seeds: bool, before: str = "") -> str:
    """Linked views of some fronts; without scripts a note says what is missing."""
    several = len(data["objectives"]) > 1
    options = "".join(
        f'<option value="{index}">{text_of(title)}</option>'
        for index, title in enumerate(data["objectives"])
    )
    pickers = (
        f'<label>across <select class="across">{options}</select></label>'
        f'<label>up <select class="up">{options}</select></label>'
        if several
        else ""
    )
    which = (
        '<label>seeds <select class="seeds"><option value="typical">the median one of each row'
        '</option><option value="all">all</option></select></label>'
        if seeds
        else ""
    )
    return (
        f'<div class="explorer">{before}<div class="controls">{which}{pickers}'
        '<button type="button" class="reset">Show all</button></div>'
        '<div class="series" role="group" aria-label="rows"></div>'
        '<div class="views"><figure><svg class="plane" viewBox="0 0 480 360"></svg></figure>'
        '<figure class="space-figure"><canvas class="space" width="960" height="720" tabindex="0" '
        'role="img" aria-label="Fronts in space; arrow keys turn them"></canvas></figure></div>'
        '<svg class="parallel" viewBox="0 0 960 300"></svg>'
        '<details class="brushes"><summary>Limits of each objective</summary><div></div></details>'
        '<p class="count" aria-live="polite"></p>'
        '<div class="scroll"><table class="picked"></table></div>'
        "<noscript><p>The explorer needs scripts; the tables do not.</p></noscript>"
        f'<script type="application/json">{script_json(data)}</script></div>'
    )


def _sliders(names: Sequence[str]) -> str:
    """One slider from the first objective to the second, or one for each of several."""
    if len(names) == 1:
        return ""
    if len(names) == 2:
        left, right = map(text_of, names)
        return (
            '<div class="sliders single"><label><span class="ends"><span>'
            f'{left}</span><span>{right}</span></span><input type="range" min="0" max="100" '
            f'value="50" aria-label="preference from {left} to {right}"></label></div>'
        )
    sliders = "".join(
        f'<label>{text_of(name)}<input type="range" min="0" max="100" value="50"></label>'
        for name in names
    )
    return f'<div class="sliders">{sliders}</div>'


def script_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    # Every number was checked when the row was read: no need for the slow and thorough writer.
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _tiers(runs: Sequence[Row]) -> str:
    """How many runs of a row are verified how far."""
    counts = Counter(run.tier or "self-reported" for run in runs)
    order = [*reversed(TIERS), "self-reported"]
    found = [(tier, counts[tier]) for tier in order if counts[tier]]
    if len(found) == 1:
        return found[0][0]
    return ", ".join(f"{count} {tier}" for tier, count in found)


def _settings(config: Mapping[str, Any]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in flat(config))


def _command(config: Mapping[str, Any]) -> str:
    """The command that makes the run; the agent's settings in full, its defaults may change."""
    try:
        return command_of(config, _usual_settings())
    except (AttributeError, KeyError, TypeError):  # a record of another runner
        return ""


@cache
def _usual_settings() -> Mapping[str, Any]:
    unset = ("discount", "horizon", "reference_point", "box_low", "box_high")
    return {**vars(RunSettings()), "env": dict.fromkeys(unset)}


def _task_summary(table: TaskTable) -> dict[str, Any]:
    first = {entry.name for entry in table.entries[:MOST_COMPARED]}
    return {
        "anchors": anchors(table.task),
        "groups": {letter: list(group) for letter, group in table.groups.items()},
        "p_values": [
            [one, two, value]
            for (one, two), value in table.p_values.items()
            if {one, two} <= first
        ],
        "entries": [
            {
                "entry": entry.name, "rank": entry.rank, "standing": entry.standing,
                "seeds": len(entry.runs), "failed": len(entry.failed),
                "indicators": {
                    name: {
                        "iqm": each.centre, "mean": each.mean, "median": each.median,
                        "interval": None if each.interval is None
                        else [each.interval.low, each.interval.high],
                    }
                    for name, each in entry.summaries.items()
                },
            }
            for entry in table.entries
        ],
    }  # fmt: skip


def _duration(seconds: float) -> str:
    if seconds < 100.0:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
