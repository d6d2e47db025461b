"""Every row of the tables of bad input, and of limits, has tests. A row without one fails here.

The rows are those of the reliability page: over HTTP (2.1), in GraphQL (2.2), over WebSocket (2.3),
in mutations (2.4), and limits (3); what the protocols of streams say; and promises about clients
(1). Each names its tests by file and function.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

HTTP = {
    "not JSON, not UTF-8": ["edge/test_http.py::test_an_invalid_request_is_a_bad_request"],
    "JSON that is no object, a batch": [
        "edge/test_http.py::test_an_invalid_request_is_a_bad_request"
    ],
    "nesting, long integers, NaN, a duplicate key": [
        "edge/test_strictness.py::test_ambiguous_json_is_a_bad_request",
        "edge/test_strictness.py::test_unambiguous_json_is_accepted",
    ],
    "lone surrogates and NUL": [
        "edge/test_broken_text.py::test_every_string_of_json_is_repaired",
        "edge/test_broken_text.py::test_a_literal_is_repaired_like_a_variable",
        "edge/test_broken_text.py::test_a_socket_stays_open_after_broken_text",
    ],
    "query, variables, extensions, operationName of another type": [
        "edge/test_http.py::test_an_invalid_request_is_a_bad_request"
    ],
    "a body that is too large": [
        "edge/test_http.py::test_a_body_can_have_256_kilobytes",
        "edge/test_strictness.py::test_a_declared_length_over_the_limit_is_refused_before_the_body_arrives",
    ],
    "a slow body, slow headers": [
        "edge/test_hostile_connections.py::test_a_request_that_is_never_complete_is_dropped",
        "edge/test_hostile_connections.py::test_a_request_sent_in_single_bytes_is_dropped",
    ],
    "another content type, a content encoding": [
        "edge/test_http.py::test_other_media_types_are_refused"
    ],
    "nothing of JSON accepted": [
        "edge/test_http.py::test_a_request_that_accepts_no_supported_type_is_not_acceptable"
    ],
    "GET of a mutation or subscription, other methods": [
        "edge/test_http.py::test_other_methods_are_refused",
        "edge/test_http.py::test_get_runs_queries_only",
        "edge/test_http.py::test_a_subscription_by_get_without_a_stream_is_not_allowed",
    ],
    "a subscription over plain POST": [
        "edge/test_http.py::test_a_subscription_over_plain_post_is_refused_with_the_types_to_accept"
    ],
    "a persisted query that is not known": [
        "edge/test_persisted.py::test_a_document_sent_once_is_known_to_all_processes",
        "edge/test_persisted.py::test_an_unknown_digest_is_not_found",
    ],
    "an unknown Host": ["edge/test_strictness.py::test_unknown_hosts_are_bad_requests"],
    "a token that is not valid": [
        "edge/test_http.py::test_an_invalid_token_is_refused_for_any_operation",
        "test_auth.py::test_an_invalid_token_is_refused",
    ],
    "no token, and a field that needs one": [
        "edge/test_execution.py::test_an_operation_without_a_viewer_can_read_public_fields"
    ],
    "over the rate or cost bucket": [
        "edge/test_rate_limits.py::test_a_viewer_has_one_rate_limit_for_all_processes",
        "edge/test_rate_limits.py::test_operations_have_a_cost",
    ],
    "the database is away": [
        "test_database_away.py"
        "::test_while_the_database_is_frozen_every_request_is_answered_with_503_in_time"
    ],
    "an operation that takes too long": ["edge/test_http.py::test_an_operation_has_a_time_limit"],
    "our own fault": ["edge/test_execution.py::test_an_internal_error_is_masked"],
}
GRAPHQL = {
    "a syntax error, nesting": ["edge/test_http.py::test_an_invalid_document_has_a_code"],
    "unknown names, circular fragments, two subscription fields, no suggestions": [
        "edge/test_hostile_documents.py::test_a_hostile_document_is_refused_with_a_short_message",
        "edge/test_strictness.py::test_a_subscription_must_have_one_root_field",
    ],
    "several operations and no name, an unknown one, an empty one": [
        "edge/test_execution.py::test_an_error_before_execution_is_returned_as_data",
        "edge/test_parameters.py::test_an_empty_operation_name_counts_as_none",
    ],
    "variables": [
        "edge/test_strictness.py::test_an_invalid_variable_is_named_in_the_error",
        "edge/test_http.py::test_an_unknown_enum_value_and_an_invalid_ratio_are_bad_input",
        "edge/test_numbers.py::test_an_invalid_number_is_a_client_error",
    ],
    "more than tokens, depth, aliases, directives, root fields, cost, pages, ids": [
        "edge/test_query_cost.py::test_a_document_over_the_cost_limit_is_refused",
        "edge/test_strictness.py::test_a_document_with_too_many_tokens_is_too_complex",
        "api/test_conversations.py::test_a_page_has_a_maximum_size",
    ],
    "a cursor that is altered, or of something else": [
        "api/test_conversations.py::test_a_cursor_is_valid_for_its_own_list_and_viewer_only"
    ],
    "an id that is unknown, foreign or deleted": [
        "api/test_conversations.py::test_a_foreign_conversation_can_be_neither_read_nor_changed",
        "api/test_outputs.py::test_only_the_owner_can_retry_and_cancel",
    ],
}
SOCKETS = {
    "another subprotocol": ["edge/test_websocket.py::test_another_subprotocol_is_refused"],
    "another origin": ["edge/test_websocket.py::test_a_handshake_that_is_refused_has_a_code"],
    "no connection_init": [
        "edge/test_websocket.py::test_a_socket_without_connection_init_is_closed",
        "edge/test_client_limits.py::test_a_socket_that_sends_no_token_is_closed",
    ],
    "a token that is missing, bad, expired or revoked": [
        "edge/test_websocket.py::test_a_socket_without_a_valid_token_is_closed_with_4403",
        "edge/test_websocket.py::test_a_socket_is_closed_when_its_token_expires",
        "edge/test_client_limits.py::test_a_viewer_who_is_blocked_while_subscribed_is_disconnected",
    ],
    "a second connection_init": [
        "edge/test_websocket.py::test_a_second_connection_init_closes_the_socket"
    ],
    "subscribe before connection_ack": [
        "edge/test_websocket.py::test_subscribing_before_the_acknowledgement_closes_the_socket"
    ],
    "what is no message": [
        "edge/test_websocket.py::test_an_invalid_message_closes_the_socket_with_4400"
    ],
    "ids and payloads of another type": [
        "edge/test_websocket.py::test_an_invalid_message_closes_the_socket_with_4400"
    ],
    "an active id again": [
        "edge/test_websocket.py::test_an_operation_id_in_use_closes_the_socket_with_4409"
    ],
    "an operation that is not valid": [
        "edge/test_websocket.py::test_an_invalid_operation_ends_itself_and_not_the_socket"
    ],
    "more than 50 operations": [
        "edge/test_websocket.py::test_a_socket_runs_fifty_operations_at_once",
        "edge/test_client_limits.py::test_messages_and_operations_of_a_socket_are_limited_by_settings",
    ],
    "too many sockets": [
        "edge/test_client_limits.py::test_the_number_of_sockets_is_limited",
        "edge/test_client_limits.py::test_sockets_of_an_address_that_await_a_token_are_limited",
    ],
    "an unknown or foreign id": [
        "api/test_subscriptions.py::test_a_foreign_turn_or_conversation_is_not_found"
    ],
    "a cursor of another conversation": [
        "api/test_subscriptions.py"
        "::test_a_cursor_of_another_conversation_is_refused_and_the_socket_stays_open"
    ],
    "a cursor older than the history": [
        "subscriptions/test_turns.py::test_a_returning_subscriber_receives_what_changed_however_long_ago"
    ],
    "a message that is too large, floods": [
        "edge/test_hostile_sockets.py::test_a_flood_of_messages_closes_the_socket"
    ],
    "more than 100 messages": [
        "edge/test_hostile_sockets.py::test_a_socket_accepts_a_hundred_messages_and_is_closed_at_one_more"
    ],
    "no answer to a ping": [
        "edge/test_client_limits.py::test_a_socket_whose_ping_is_not_answered_is_closed",
        "edge/test_client_limits.py::test_a_ping_that_is_answered_is_followed_by_another",
    ],
    "what is sent is not read": [
        "edge/test_client_limits.py::test_a_socket_whose_messages_are_not_read_is_closed"
    ],
    "stopping": [
        "edge/test_hostile_sockets.py::test_a_signal_ends_the_process_whatever_its_sockets_do"
    ],
    "an exception in a generator": [
        "edge/test_execution.py::test_a_stream_whose_source_fails_ends_with_the_error"
    ],
}
MUTATIONS = {
    "a prompt that is blank or too long": [
        "api/test_conversations.py::test_a_message_of_invisible_characters_is_empty",
        "api/test_conversations.py::test_all_user_errors_are_returned_at_once_and_nothing_is_written",
    ],
    "models": [
        "api/test_conversations.py::test_all_user_errors_are_returned_at_once_and_nothing_is_written",
        "domain/test_planning.py::test_a_model_without_editing_cannot_edit",
        "domain/test_planning.py::test_a_model_that_only_edits_needs_a_reference",
        "domain/test_planning.py::test_duplicate_models_are_found_after_aliases_and_siblings_are_resolved",
    ],
    "references and mentions": [
        "api/test_turns.py::test_all_user_errors_of_an_edit_are_returned_at_once",
        "domain/test_planning.py::test_the_error_of_an_unknown_mention_says_how_many_references_there_are",
    ],
    "options that the model lacks": [
        "api/test_conversations.py::test_options_that_a_model_does_not_support_are_refused"
    ],
    "credits, and outputs in flight": [
        "api/test_credits.py::test_a_request_that_costs_more_than_the_balance_is_refused",
        "api/test_credits.py::test_no_more_is_spent_than_the_request_allows",
        "api/test_credits.py::test_the_number_of_running_outputs_is_limited",
    ],
    "a turn that is running": [
        "api/test_turns.py::test_an_edit_is_refused_while_no_output_has_an_image"
    ],
    "idempotency keys": [
        "api/test_idempotency.py::test_a_key_with_another_input_is_refused",
        "api/test_idempotency.py::test_a_key_has_a_maximum_length",
    ],
    "retries and cancellations": [
        "api/test_outputs.py::test_an_output_that_cannot_be_retried_is_refused"
    ],
    "operators of MongoDB": [
        "api/test_conversations.py::test_text_with_mongodb_operators_is_stored_as_text"
    ],
}
LIMITS = {
    "body, headers, URL": [
        "edge/test_http.py::test_a_body_can_have_256_kilobytes",
        "edge/test_hostile_connections.py::test_a_request_head_beyond_the_limits_is_refused",
        "edge/test_hostile_connections.py::test_a_request_head_can_be_as_large_as_the_limits_allow",
    ],
    "time of headers, body, operation, idle connections": [
        "edge/test_hostile_connections.py::test_a_request_that_is_never_complete_is_dropped",
        "edge/test_websocket.py::test_a_query_over_a_socket_has_a_time_limit",
    ],
    "document": ["edge/test_query_cost.py::test_a_document_over_the_cost_limit_is_refused"],
    "cost before execution": [
        "edge/test_query_cost.py::test_fifty_turns_with_every_field_are_below_the_limit",
        "edge/test_query_cost.py::test_a_document_of_exponential_fragments_is_answered",
    ],
    "pages, ids, lists": [
        "api/test_conversations.py::test_a_page_has_a_maximum_size",
        "edge/test_numbers.py::test_a_list_that_is_too_long_is_refused_before_it_is_read",
    ],
    "requests in flight": [
        "edge/test_client_limits.py::test_requests_in_flight_of_a_client_are_limited",
        "edge/test_client_limits.py::test_requests_in_flight_of_a_process_are_limited",
        "edge/test_client_limits.py::test_operations_of_one_socket_wait_for_each_other",
    ],
    "sockets, and their age": [
        "edge/test_client_limits.py::test_the_number_of_sockets_is_limited",
        "edge/test_client_limits.py::test_a_socket_that_has_reached_its_maximum_age_is_closed",
    ],
    "size of an answer": ["edge/test_execution.py::test_a_response_that_is_too_large_is_an_error"],
    "rate and cost buckets": [
        "edge/test_rate_limits.py::test_requests_without_a_token_are_limited_by_address",
        "edge/test_rate_limits.py::test_concurrent_processes_together_stay_within_the_limit",
    ],
    "subscriptions, waiting events": [
        "edge/test_client_limits.py::test_subscriptions_of_a_viewer_are_limited",
        "api/test_subscriptions.py::test_a_slow_subscriber_receives_the_newest_state_instead_of_every_update",
    ],
    "pings, sending": [
        "edge/test_client_limits.py::test_a_socket_whose_ping_is_not_answered_is_closed",
        "edge/test_client_limits.py::test_a_connection_whose_response_is_not_read_is_closed",
    ],
    "prompt, models, references, images per model": [
        "api/test_conversations.py::test_all_user_errors_are_returned_at_once_and_nothing_is_written"
    ],
    "tokens": ["test_auth.py::test_a_token_is_valid_for_the_leeway_beyond_its_expiry"],
    "lease, heartbeat, sweep": [
        "storage/test_contacts.py"
        "::test_expired_leases_are_taken_even_if_processes_live_shorter_than_a_lease",
        "storage/test_contacts.py::test_a_process_that_lost_the_database_waits_for_a_lease",
    ],
}
TRANSPORT_WS = {
    "the subprotocol": [
        "edge/test_protocol_sentences.py::test_the_server_selects_the_offered_subprotocol",
        "edge/test_websocket.py::test_another_subprotocol_is_refused",
    ],
    "ConnectionInit and ConnectionAck": [
        "edge/test_websocket.py::test_a_socket_without_connection_init_is_closed",
        "edge/test_websocket.py::test_a_second_connection_init_closes_the_socket",
    ],
    "Ping and Pong": [
        "edge/test_protocol_sentences.py::test_a_ping_can_be_sent_at_any_time_with_any_payload",
        "edge/test_protocol_sentences.py::test_an_unsolicited_pong_is_a_heartbeat",
    ],
    "Subscribe": [
        "edge/test_websocket.py::test_subscribing_before_the_acknowledgement_closes_the_socket",
        "edge/test_websocket.py::test_an_operation_id_in_use_closes_the_socket_with_4409",
        "edge/test_protocol_sentences.py::test_operations_of_one_socket_run_concurrently",
        "edge/test_protocol_sentences.py"
        "::test_an_operation_id_is_free_after_an_error_and_after_completion",
    ],
    "Next": [
        "edge/test_protocol_sentences.py::test_a_field_error_is_sent_in_next_and_not_in_error",
        "edge/test_websocket.py::test_queries_and_mutations_run_over_a_socket",
    ],
    "Error": [
        "edge/test_protocol_sentences.py::test_an_error_is_the_last_message_of_its_operation",
        "edge/test_websocket.py::test_an_invalid_operation_ends_itself_and_not_the_socket",
    ],
    "Complete": [
        "edge/test_websocket.py::test_a_completed_operation_sends_nothing_more_and_its_id_is_free",
        "edge/test_protocol_sentences.py::test_completing_an_ended_or_unknown_operation_does_nothing",
    ],
    "invalid messages": [
        "edge/test_websocket.py::test_an_invalid_message_closes_the_socket_with_4400",
        "edge/test_protocol_sentences.py::test_a_server_message_sent_by_a_client_is_invalid",
        "edge/test_protocol_sentences.py::test_unknown_fields_of_a_message_are_ignored",
    ],
}
SERVER_SENT_EVENTS = {
    "a request for one operation, and its stream of events": [
        "edge/test_sse.py::test_a_subscription_is_a_stream_of_server_sent_events",
        "edge/test_sse.py::test_a_subscription_is_a_stream_if_the_client_accepts_it",
    ],
    "queries and mutations": [
        "edge/test_sse.py::test_a_query_is_answered_with_json_if_the_client_accepts_it",
        "edge/test_sse.py::test_a_mutation_can_be_answered_with_events",
    ],
    "GET": ["edge/test_sse.py::test_get_opens_a_stream_but_runs_no_mutation"],
    "what is wrong before the stream begins": [
        "edge/test_sse.py::test_an_error_before_the_stream_begins_is_a_plain_response",
        "edge/test_sse.py::test_an_invalid_token_opens_no_stream",
    ],
    "complete": [
        "edge/test_sse.py::test_a_failing_subscription_sends_its_error_and_completes",
        "edge/test_sse.py::test_a_stream_ends_when_its_token_expires",
    ],
    "a client that leaves": [
        "edge/test_sse.py::test_a_client_that_disconnects_ends_its_subscription"
    ],
    "heartbeats": ["edge/test_sse.py::test_an_idle_stream_sends_heartbeats"],
    "the single connection mode": [
        "edge/test_sse.py::test_the_single_connection_mode_is_not_supported"
    ],
}
PROMISES = {
    "P7: foreign ids": [
        "promises/test_foreign_ids.py::test_a_foreign_id_is_answered_like_an_unknown_id",
        "promises/test_foreign_ids.py::test_an_expired_token_is_refused",
    ],
    "P8: no input is an error of ours": [
        "promises/test_inputs.py::test_no_request_body_causes_an_internal_error",
        "promises/test_inputs.py::test_no_websocket_frame_causes_an_internal_error",
        "edge/test_hostile_inputs.py::test_no_input_causes_an_internal_error",
    ],
    "P9: no request starves the others": [
        "edge/test_hostile_documents.py::test_a_hostile_document_is_refused_with_a_short_message",
        "edge/test_hostile_documents.py::test_a_document_that_asks_for_too_much_is_refused",
        "edge/test_hostile_documents.py::test_an_expensive_accepted_document_does_not_delay_others",
        "edge/test_hostile_documents.py"
        "::test_many_long_documents_of_one_client_do_not_delay_others",
    ],
    "P10: slow and silent clients": [
        "promises/test_clients_that_stall.py::test_sockets_that_never_send_a_token_are_closed",
        "promises/test_clients_that_stall.py::test_sockets_that_read_nothing_are_closed",
        "edge/test_hostile_connections.py::test_a_request_sent_in_single_bytes_is_dropped",
    ],
    "P12: the database may go away": [
        "resilience/test_frozen_database.py"
        "::test_during_an_outage_of_the_database_mutations_are_refused_and_deliveries_kept",
        "resilience/test_frozen_database.py"
        "::test_a_frozen_database_closes_no_socket_and_everything_resumes_automatically",
    ],
    "P15: rights end when they end": [
        "edge/test_websocket.py::test_a_socket_is_closed_when_its_token_expires",
        "edge/test_client_limits.py::test_a_viewer_who_is_blocked_while_subscribed_is_disconnected",
        "api/test_subscriptions.py::test_deleting_a_conversation_completes_both_subscriptions",
        "test_auth.py::test_tokens_of_a_withdrawn_key_are_refused",
    ],
    "P18: no leak over time": [
        "promises/test_clients_that_stall.py::test_disconnected_clients_leave_nothing_behind"
    ],
    "P19: secrets stay secret": [
        "promises/test_inputs.py::test_logs_and_metrics_contain_no_secrets",
        "tracing/test_traces.py"
        "::test_one_trace_covers_the_request_the_delivery_in_a_worker_and_the_webhook",
    ],
    "P20: the protocols are kept": [
        "edge/test_npm_clients.py::test_the_audits_of_graphql_http_pass",
        "test_contract.py::test_the_exported_schema_equals_the_committed_one",
    ],
}
TABLES = {
    "2.1": HTTP,
    "2.2": GRAPHQL,
    "2.3": SOCKETS,
    "2.4": MUTATIONS,
    "3": LIMITS,
    "graphql-transport-ws": TRANSPORT_WS,
    "server-sent events": SERVER_SENT_EVENTS,
    "promises": PROMISES,
}
ROWS = [(f"{table}: {row}", tests) for table, rows in TABLES.items() for row, tests in rows.items()]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(one.name for one in tree.body if isinstance(one, kinds))


@pytest.mark.parametrize(("row", "tests"), ROWS, ids=[row for row, _ in ROWS])
def test_a_row_has_existing_tests(row: str, tests: list[str]) -> None:
    assert tests, row
    for test in tests:
        path, _, name = test.partition("::")
        assert name in functions_of(path), test


def test_every_row_of_the_reliability_page_is_covered() -> None:
    assert {table: len(rows) for table, rows in TABLES.items()} == {
        "2.1": 19,
        "2.2": 7,
        "2.3": 21,
        "2.4": 9,
        "3": 14,
        "graphql-transport-ws": 8,
        "server-sent events": 8,
        "promises": 9,
    }
