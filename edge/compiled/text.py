"""The text of functions: how each field of a selection is answered, as an expression of Python.

A function takes a value and the run, and returns the answer's dict. Fields are read by attribute;
of a stored value, by the keys of its record. A field whose resolver waits is answered later: its
key is in the dict at once, so that the order is right, and the run is given what has to be awaited.
"""

import math
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    get_named_type,
    is_leaf_type,
)

from domain.stored import Coded, Instant, Key, Listed, Many, One, Property, Stored, Written
from edge.compiled.fields import FieldArguments, Selected, read_arguments
from edge.compiled.leaves import USUAL, UnexpectedValue, enum_names, make_writer, require_list
from edge.compiled.selections import NotCompilable, variables_of
from edge.compiled.wanted import wanted_items
from schema.hints import hints_of

if TYPE_CHECKING:
    from edge.compiled.functions import Functions

Answer: TypeAlias = dict[str, Any]
MIN_CACHED_FIELDS: Final = 3
"""How many fields of a record must not change, so that caching them is worth its cost."""
_MISSING: Final = object()
_cache_numbers: Final = count()
"""Of functions, so that each has cache keys of its own."""


class FunctionText:
    """The text of one function, and the objects that its names stand for."""

    def __init__(
        self,
        functions: "Functions",
        *,
        stored: type[Stored] | None = None,
        has_value: bool = True,
    ) -> None:
        """`has_value`: whether it is given the stored value, rather than its record only."""
        self._functions = functions
        self._stored = stored
        self._has_value = has_value
        self._globals: dict[str, Any] = {}
        self._temporaries = count()
        self._uses_value = False
        self._attributes: set[str] = set()
        """What resolvers read of the value."""
        self._before: list[str] = []

    def make(self, fields: "list[Selected]") -> Callable[..., Answer]:
        cacheable = [field for field in fields if self._is_cacheable(field)]
        if len(cacheable) >= MIN_CACHED_FIELDS:
            lines = self._answer_from_cache(fields, cacheable)
        else:
            lines = self._answer(fields, fields)
        if self._stored is not None and self._uses_value:
            lines = [*self._make_value(self._stored), *lines]
        body = "\n".join(f"    {line}" for line in [*self._before, *lines, "return answer"])
        if self._stored is None:
            return self.compile(body)
        if self._has_value:
            return self.compile(f"    record = value.record\n{body}")
        return self.compile(body, parameters="record, run")

    def _answer(self, fields: "list[Selected]", filled: "list[Selected]") -> list[str]:
        """The lines that make the answer; fields that are not in `filled` are null."""
        entries: list[str] = []
        after: list[str] = []
        for field in fields:
            if field not in filled:
                entries.append(f"{field.key!r}: None")
            elif self._waits(field):
                entries.append(f"{field.key!r}: None")
                after.append(self._wait_for(field))
            else:
                entries.append(f"{field.key!r}: {self._read(field)}")
        return [f"answer = {{{', '.join(entries)}}}", *after]

    def _answer_from_cache(
        self, fields: "list[Selected]", cacheable: "list[Selected]"
    ) -> list[str]:
        """The lines that take the answer from the cache, or make it and add it to the cache."""
        assert self._stored is not None
        names = sorted({name for field in cacheable for name in variables_of(field.nodes)})
        key = [repr(next(_cache_numbers)), f"record[{self._stored.identity!r}]"]
        # One that is left out is not null: its argument may have a default.
        missing = self._name(_MISSING)
        key += [f"run.arguments.variable({name!r}, {missing})" for name in names]
        keep = self._name(self._functions.answers.keep)
        make = [
            *self._answer(fields, cacheable),
            f"{keep}(key, {self._expires_at(cacheable)}, answer)",
        ]
        if self._uses_value:
            make = [*self._make_value(self._stored), *make]
        self._uses_value = False
        fill: list[str] = []
        for field in fields:
            if field in cacheable:
                continue
            fill.append(
                self._wait_for(field)
                if self._waits(field)
                else f"answer[{field.key!r}] = {self._read(field)}"
            )
        find = self._name(self._functions.answers.find)
        return [
            f"key = ({', '.join(key)})",
            f"known = {find}(key)",
            "if known is not None and run.now < known[0]:",
            "    answer = known[1].copy()",
            "else:",
            *(f"    {line}" for line in make),
            *fill,
        ]

    def _is_cacheable(self, field: Selected) -> bool:
        """Whether the answer is the same for as long as the record, or its links."""
        stored = self._stored
        if stored is None or stored.identity is None or field.definition is None:
            return False
        declared = field.declared
        if not is_leaf_type(get_named_type(field.definition.type)):
            return False
        if declared.base_resolver is not None and not self._is_stored(field):
            return hints_of(declared).until is not None
        return declared.python_name in stored.fields and declared.python_name not in stored.changing

    def _expires_at(self, cacheable: "list[Selected]") -> str:
        calls = [
            self._call(field, until)
            for field in cacheable
            if (until := hints_of(field.declared).until) is not None
        ]
        return f"min({', '.join(calls)}, {self._name(math.inf)})" if calls else "run.now + 3600"

    def _waits(self, field: Selected) -> bool:
        return (
            field.definition is not None and field.declared.is_async and not self._is_stored(field)
        )

    def _make_value(self, stored: type[Stored]) -> list[str]:
        """The lines that make a value where none is given, and fill in what resolvers read."""
        lines = [] if self._has_value else [f"value = {self._name(stored.of)}(record)"]
        for name in sorted(self._attributes):
            read = stored.fields.get(name)
            if isinstance(read, Listed) or (isinstance(read, Key) and read.required):
                put = self._name(getattr(stored, name).__set__)
                found = f"record[{read.name!r}]"
                found = f"tuple({found})" if isinstance(read, Listed) else found
                lines.append(f"{put}(value, {found})")
        return lines

    def compile(self, body: str, *, parameters: str = "value, run") -> Callable[..., Any]:
        text = f"def answer({parameters}):\n{body}\n"
        # Made of names of the schema and of literals that `repr` wrote.
        exec(compile(text, "<selection>", "exec"), self._globals)
        return cast("Callable[..., Any]", self._globals["answer"])

    def _read(self, field: Selected) -> str:
        """The expression that answers a field."""
        if field.definition is None:
            return repr(field.kind.name)
        declared, kind = field.declared, field.definition.type
        if declared.base_resolver is not None and not self._is_stored(field):
            return self._resolve(field)
        stored = self._stored.fields.get(declared.python_name) if self._stored else None
        if stored is None or isinstance(stored, Property):
            self._uses_value = True
            return self.complete(kind, f"value.{declared.python_name}", field.nodes)
        return self._read_stored(stored, kind, field.nodes)

    def _is_stored(self, field: Selected) -> bool:
        """Whether the answer of the field's resolver is in the record."""
        stored = self._stored
        return (
            stored is not None
            and hints_of(field.declared).stored
            and field.declared.python_name in stored.fields
        )

    def _read_stored(self, stored: Any, kind: GraphQLOutputType, nodes: list[FieldNode]) -> str:
        nullable = not isinstance(kind, GraphQLNonNull)
        named = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
        key = f"record[{getattr(stored, 'name', '')!r}]"
        match stored:
            case Key() if stored.required:
                return self.complete(kind, key, nodes)
            case Key(default=None | bool()):
                return self.complete(
                    kind, f"record.get({stored.name!r}, {stored.default!r})", nodes
                )
            case Coded() | Instant():
                return self.complete(kind, key, nodes)
            case Written() if str(named) == "AspectRatio":
                text = self._temporary()
                return f"({text} if ({text} := {key}).__class__ is str else {self._refuse()})"
            case One() if isinstance(named, GraphQLObjectType):
                key = f"record.get({stored.name!r})"
                function = self._name(self._of_records(named, nodes, stored.kind))
                if not nullable:
                    return f"{function}({key}, run)"
                found = self._temporary()
                return f"(None if ({found} := {key}) is None else {function}({found}, run))"
            case Many() if isinstance(named, GraphQLList):
                item = named.of_type
                inner = item.of_type if isinstance(item, GraphQLNonNull) else item
                if isinstance(inner, GraphQLObjectType):
                    function = self._name(self._of_records(inner, nodes, stored.kind))
                    is_plain = not (stored.inherits or stored.skip)
                    records = key if is_plain else f"{self._name(stored.records)}(record)"
                    return f"[{function}(item, run) for item in {records}]"
        return self.complete(kind, f"{self._name(stored)}(record)", nodes)

    def _of_records(
        self, kind: GraphQLObjectType, nodes: list[FieldNode], stored: type[Stored]
    ) -> Callable[..., Answer]:
        return self._functions.make_by_class(kind, nodes).make_for_records(stored)

    def _resolve(self, field: Selected) -> str:
        """The expression that calls a resolver which does not wait."""
        assert field.definition is not None
        reads = hints_of(field.declared).constant_by
        if reads is None or field.definition.args:
            return self.complete(field.definition.type, self._call(field), field.nodes)
        # The same for all values of this attribute, so a run answers it once for each.
        memo, key, found = self._temporary(), self._temporary(), self._temporary()
        stored = self._stored.fields.get(reads) if self._stored else None
        if self._stored is not None and isinstance(stored, Key) and stored.required:
            source = f"record[{stored.name!r}]"
            completed = self._complete_of_record(field, self._stored)
        else:
            self._uses_value = True
            source = f"value.{reads}"
            completed = self.complete(field.definition.type, self._call(field), field.nodes)
        self._before.append(f"{memo} = run.memos[{next(self._functions.memos)}]")
        return (
            f"({found} if ({found} := {memo}.get({key} := {source}, {self._name(_MISSING)}))"
            f" is not {self._name(_MISSING)} else {memo}.setdefault({key}, {completed}))"
        )

    def _complete_of_record(self, field: Selected, stored: type[Stored]) -> str:
        """The expression that makes the record's value, and completes what a resolver makes of it:
        for what is rarely evaluated.
        """
        assert field.definition is not None
        before, self._uses_value = self._uses_value, False
        completed = self.complete(field.definition.type, self._call(field), field.nodes)
        self._uses_value = before
        return f"(lambda value, run: {completed})({self._name(stored.of)}(record), run)"

    def _call(self, field: Selected, instead: Callable[..., Any] | None = None) -> str:
        """The expression that calls a resolver, or another function as it is called. Of one that
        waits, it makes the coroutine.
        """
        declared = field.declared
        resolver = declared.base_resolver
        assert resolver is not None
        assert field.definition is not None
        self._attributes.update(hints_of(declared).reads or ())
        function: Any = instead or resolver.wrapped_func
        if isinstance(function, staticmethod):
            function = function.__func__
        given: list[str] = []
        if resolver.self_parameter is not None:
            self._uses_value = True
            given.append("value")
        for parameter in (resolver.parent_parameter, resolver.root_parameter):
            if parameter is not None:
                self._uses_value = True
                given.append(f"{parameter.name}=value")
        if resolver.info_parameter is not None:
            given.append(f"{resolver.info_parameter.name}={self._info(field)}")
        if field.definition.args:
            given.append(
                f"**{self._arguments(read_arguments(field.nodes[0], field.definition, declared))}"
            )
        return f"{self._name(function)}({', '.join(given)})"

    def _info(self, field: Selected) -> str:
        if not hints_of(field.declared).projects:
            return "run.info"
        assert field.definition is not None
        kind = get_named_type(field.definition.type)
        assert isinstance(kind, GraphQLObjectType)
        items = wanted_items(self._functions.selections, kind, field.nodes)
        return f"run.wanting({self._name(items)})"

    def _arguments(self, arguments: FieldArguments) -> str:
        if not arguments.variable_names:
            return self._name(self._functions.bind(arguments, None))
        self._functions.arguments.append(arguments)
        return f"run.arguments[{len(self._functions.arguments) - 1}]"

    def _wait_for(self, field: Selected) -> str:
        assert field.definition is not None
        self._functions.waits = True
        complete = self._name(self._functions.make(field.definition.type, field.nodes))
        return f"run.later.append((answer, {field.key!r}, {complete}, {self._call(field)}))"

    def complete(self, kind: GraphQLOutputType, value: str, nodes: list[FieldNode]) -> str:
        """The expression that completes the value of an expression, which is evaluated once."""
        if isinstance(kind, GraphQLNonNull):
            return self._complete_given(kind.of_type, value, nodes)
        found = self._temporary()
        given = self._complete_given(kind, found, nodes)
        return f"(None if ({found} := {value}) is None else {given})"

    def _complete_given(self, kind: GraphQLOutputType, value: str, nodes: list[FieldNode]) -> str:
        if isinstance(kind, GraphQLList):
            item = self._temporary()
            inner = kind.of_type.of_type if isinstance(kind.of_type, GraphQLNonNull) else None
            if isinstance(inner, GraphQLObjectType | GraphQLInterfaceType):
                answers = self._functions.make_by_class(inner, nodes)
                return f"{self._name(answers.answer_all)}({value}, run)"
            # A list inside needs a function of its own: an assignment cannot be to a loop's name.
            function = self._name(self._functions.make(kind.of_type, nodes))
            items = f"{self._name(require_list)}({value})"
            return f"[{function}({item}, run) for {item} in {items}]"
        if is_leaf_type(kind):
            return self._complete_leaf(kind, value)
        if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            raise NotCompilable(str(kind))
        return f"{self._name(self._functions.make_by_class(kind, nodes))}({value}, run)"

    def _complete_leaf(self, kind: GraphQLLeafType, value: str) -> str:
        if isinstance(kind, GraphQLEnumType):
            names = enum_names(kind, kind.wrapped_cls)  # type: ignore[attr-defined]
            return f"{self._name(names)}[{value}]"
        write = self._name(make_writer(kind))
        usual = USUAL.get(kind.name)
        if usual is None:
            return f"{write}({value})"
        found = self._temporary()
        test = usual.format(value=found).replace(found, f"({found} := {value})", 1)
        return f"({found} if {test} else {write}({found}))"

    def _refuse(self) -> str:
        return f"{self._name(_refuse)}()"

    def _name(self, value: object) -> str:
        for name, known in self._globals.items():
            if known is value:
                return name
        name = f"g{len(self._globals)}"
        self._globals[name] = value
        return name

    def _temporary(self) -> str:
        return f"t{next(self._temporaries)}"


def _refuse() -> Any:
    raise UnexpectedValue
