"""Validates documents as graphql-core's `validate` does, and leaves nothing behind that only the
garbage collector can free.

What `validate` leaves holds itself and the document. Some hundred documents would take as many
megabytes until all objects are looked through, which is rarely done: it blocks the event loop.
"""

from typing import Final

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    ParallelVisitor,
    TypeInfo,
    TypeInfoVisitor,
    ValidationContext,
    Visitor,
    specified_rules,
    visit,
)
from graphql.validation import OverlappingFieldsCanBeMergedRule
from graphql.validation.validate import (
    FragmentNestingVisitor,
    ValidationAbortedError,
    query_document_keys_to_validate,
)
from graphql.validation.validation_context import (
    NodeWithSelectionSet,
    VariableUsage,
    VariableUsageVisitor,
)

MAX_ERRORS: Final = 20
"""The errors of one document, after which validation stops."""
MAX_COMPARISONS: Final = 10_000
"""How many pairs of fields with the same response key are compared, to find out whether they can be
merged. Documents of apps need none, or some thousand where many fragments select the same fields.
The limit keeps validation below 50 ms.
"""
_STOPPED: Final = "Too many validation errors, error limit reached. Validation aborted."


def find_errors(schema: GraphQLSchema, document: DocumentNode) -> list[GraphQLError]:
    """Why the document is not valid. The last one is a ValidationAbortedError where it says that
    validation was stopped.
    """
    errors: list[GraphQLError] = []

    def report(error: GraphQLError) -> None:
        if len(errors) >= MAX_ERRORS:
            raise ValidationAbortedError(_STOPPED)
        errors.append(error)

    types = TypeInfo(schema)
    context = _Context(schema, document, types, report, hide_suggestions=True)
    visitors: list[Visitor] = [rule(context) for rule in _RULES]
    fragments = {
        one.name.value: one
        for one in document.definitions
        if isinstance(one, FragmentDefinitionNode)
    }
    if fragments:
        visitors.insert(0, FragmentNestingVisitor(fragments))
    together = ParallelVisitor(visitors)
    root = TypeInfoVisitor(types, together)
    try:
        visit(document, root, query_document_keys_to_validate)
    except ValidationAbortedError as error:
        error.__context__ = None  # It would hold all frames, as its traceback would.
        errors.append(error.with_traceback(None))
    except RecursionError:
        errors.append(ValidationAbortedError("Validation aborted."))
    _unlink(root, together, *visitors)
    return errors


def _unlink(*visitors: Visitor) -> None:
    """Empty visitors that have ended: each refers to its own methods, and so to itself."""
    for visitor in visitors:
        vars(visitor).clear()


class _Context(ValidationContext):
    def get_variable_usages(self, node: NodeWithSelectionSet) -> list[VariableUsage]:
        """Find them as graphql-core does, but keep no visitors, which would keep the fragment."""
        usages = self._variable_usages.get(node)
        if usages is None:
            fragment = node if isinstance(node, FragmentDefinitionNode) else None
            visitor = VariableUsageVisitor(self._type_info, fragment)
            root = TypeInfoVisitor(self._type_info, visitor)
            visit(node, root)
            usages = self._variable_usages[node] = visitor.usages
            _unlink(root, visitor)
        return usages


class _OverlappingFieldsRule(OverlappingFieldsCanBeMergedRule):
    """graphql-core's rule with a smaller limit: with its own, a small document takes seconds."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MAX_COMPARISONS


_RULES: Final = tuple(
    _OverlappingFieldsRule if rule is OverlappingFieldsCanBeMergedRule else rule
    for rule in specified_rules
)
