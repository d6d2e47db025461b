"""The studio's messages in Portuguese: none is missing."""

import re

from graphql import GraphQLEnumType, build_schema

from tests.studio.test_build import ROOT, STUDIO


def test_every_code_of_an_error_has_a_message_in_portuguese() -> None:
    schema = build_schema((ROOT / "schema.graphql").read_text())
    messages = (STUDIO / "src/i18n/pt.ts").read_text()
    translated = set(re.findall(r"^ {4}([A-Z_]+):", messages, re.MULTILINE))

    for name in ("UserErrorCode", "GenerationErrorCode", "ModelUnavailableReason"):
        codes = schema.type_map[name]
        assert isinstance(codes, GraphQLEnumType)
        assert codes.values.keys() - translated == set()
