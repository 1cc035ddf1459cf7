"""The terminal: whatever is printed, a name from outside gives it no orders."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from common.text import printable


class SafeConsole(Console):
    """A console that shows control characters as escapes; colours and cursor come from rich's own styles alone."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_lines(segment.text))

    def on_broken_pipe(self) -> None:
        """Let the command line tell that nobody reads the output."""
        self.quiet = True
        raise BrokenPipeError


def plain(text: object) -> Text:
    """For tables: the text as it is, with neither markup nor emoji codes taken for orders."""
    return Text(printable(str(text)))


def say(console: Console, line: str) -> None:
    """Print a line as it is, however long: what it names may hold anything."""
    console.print(plain(line), soft_wrap=True)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
