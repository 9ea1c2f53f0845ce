"""What `mtlora data check` prints."""

from collections.abc import Sequence

from mtlora.data.check import CheckReport
from mtlora.data.findings import Finding

_FILES = 3


def report_lines(report: CheckReport, *, all_files: bool = False) -> list[str]:
    """The report as lines: numbers first, then notes, then problems."""
    lines = [f"layout: {report.layout}"]
    for split, counts in report.counts.items():
        labels = ", ".join(f"{task.value} {count}" for task, count in counts.items() if task is not None)
        lines.append(f"{split}: {counts[None]} photos; labels: {labels or 'none'}")
    special = [f"{count} {what}" for what, count in report.photos.items() if count]
    lines += [f"photos, read as serving reads them: {'; '.join(special)}"] if special else []
    lines += report.tables
    lines += _listed("notes", report.notes, all_files)
    return [*lines, *(_listed("problems", report.problems, all_files) or ["no problems"])]


def _listed(what: str, findings: Sequence[Finding], all_files: bool) -> list[str]:
    if not findings:
        return []
    shown = (finding.line(len(finding.where) if all_files else _FILES) for finding in findings)
    return [
        f"{len(findings)} {what if len(findings) > 1 else what.removesuffix('s')}:",
        *(f"  - {line}" for line in shown),
    ]
