"""Write the page of a search, and the table of all searches beside it."""

from __future__ import annotations

from segtune.evaluation.validate import OnDone
from segtune.files.atomic import write_text
from segtune.files.folders import SearchFolder
from segtune.report.gather import gather
from segtune.report.index import write_index
from segtune.report.page import page
from segtune.report.record import Report


def write_report(folder: SearchFolder, with_examples: bool = True, on_done: OnDone | None = None) -> Report:
    """Write report.html into the folder of a search and index.html beside the folder; return what the page shows.

    Arguments and errors are those of `gather`.
    """
    report = gather(folder, with_examples, on_done)
    write_text(folder.report_html, page(report))
    write_index(folder.path.parent)
    return report
