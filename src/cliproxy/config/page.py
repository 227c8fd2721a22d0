"""A text with everything that is known about it: what an edit starts from, and what it is proved on."""

from __future__ import annotations

from msgspec import Struct

from cliproxy.config.layout import Splice, spliced
from cliproxy.config.meanings import Meaning, Meanings
from cliproxy.config.nodes import AliasNode, Anchored, Node, ScalarNode, compose
from cliproxy.config.tree import Branch, Grower, Scalar


class Page(Struct, frozen=True):
    """`break_` is the line break in use. `grown` holds what lists and mappings mean, by the id of their node."""

    text: str
    root: Node | None
    aliases: list[AliasNode]
    grown: dict[int, Branch]
    meanings: Meanings
    meaning: Meaning
    break_: str

    @classmethod
    def of(cls, text: str, source: str, meanings: Meanings) -> Page:
        """Raises ConfigError as `tree.parse` does."""
        composed = compose(text, source)
        grower = Grower(source)
        branch = None if composed.root is None else grower.grow_root(composed.root)
        break_ = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
        return cls(text, composed.root, composed.aliases, grower.grown, meanings, meanings.of(branch), break_)

    def with_splices(self, splices: list[Splice], source: str) -> Page:
        return Page.of(spliced(self.text, splices), source, self.meanings)

    def branch(self, node: Node) -> Branch:
        target: Anchored = node.target if isinstance(node, AliasNode) else node
        if isinstance(target, ScalarNode):
            return Scalar(target.place, target.text, target.kind, is_plain=not target.style)
        return self.grown[id(target)]

    def meaning_of(self, node: Node) -> Meaning:
        return self.meanings.of(self.branch(node))

    def indented(self, lines: list[str], column: int) -> str:
        """Whole lines."""
        return "".join(f"{' ' * column}{line}{self.break_}" for line in lines)
