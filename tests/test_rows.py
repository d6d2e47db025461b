"""Every row of the tables of bad input, and of limits, has tests. A row without one fails here.

The rows are those of the reliability page: over HTTP (2.1), in GraphQL (2.2), over WebSocket (2.3),
in mutations (2.4), and limits (3); what the protocols of streams say; and promises about clients
(1). Each names its tests, by
file and function.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

HTTP = {
    "not JSON, not UTF-8": ["edge/test_http.py::test_a_request_that_is_none_is_a_bad_request"],
    "JSON that is no object, a batch": [
        "edge/test_http.py::test_a_request_that_is_none_is_a_bad_request"
    ],
    "nesting, long integers, NaN, a duplicate key": [
        "edge/test_strictness.py::test_ambiguous_json_is_a_bad_request",
        "edge/test_strictness.py::test_clear_json_is_read",
    ],
    "lone surrogates and NUL": [
        "edge/test_broken_text.py::test_every_string_of_json_is_repaired",
        "edge/test_broken_text.py::test_a_literal_is_read_as_a_variable_is",
        "edge/test_broken_text.py::test_a_socket_outlives_broken_text",
    ],
    "query, variables, extensions, operationName of another type": [
        "edge/test_http.py::test_a_request_that_is_none_is_a_bad_request"
    ],
    "a body that is too large": [
        "edge/test_http.py::test_a_body_may_have_256_kilobytes",
        "edge/test_strictness.py::test_a_declared_length_is_refused_before_the_body_arrives",
    ],
    "a slow body, slow headers": [
        "edge/test_hostile_connections.py::test_what_is_never_complete_is_dropped",
        "edge/test_hostile_connections.py::test_what_comes_in_drips_is_dropped",
    ],
    "another content type, a content encoding": [
        "edge/test_http.py::test_other_media_types_are_refused"
    ],
    "nothing of JSON accepted": [
        "edge/test_http.py::test_an_answer_that_nobody_wants_is_not_given"
    ],
    "GET of a mutation or subscription, other methods": [
        "edge/test_http.py::test_other_methods_are_refused",
        "edge/test_http.py::test_get_answers_queries_and_nothing_else",
        "edge/test_http.py::test_a_subscription_by_get_without_a_stream_is_not_allowed",
    ],
    "a subscription over plain POST": [
        "edge/test_http.py::test_a_subscription_over_http_is_told_what_it_may_accept"
    ],
    "a persisted query that is not known": [
        "edge/test_persisted.py::test_a_document_is_sent_once_for_all_processes",
        "edge/test_persisted.py::test_a_name_that_nobody_knows_is_not_found",
    ],
    "an unknown Host": ["edge/test_strictness.py::test_other_hosts_are_bad_requests"],
    "a token that is not valid": [
        "edge/test_http.py::test_a_token_that_is_none_is_refused_whatever_is_asked",
        "test_auth.py::test_refused",
    ],
    "no token, and a field that needs one": [
        "edge/test_execution.py::test_an_operation_for_nobody_reads_what_needs_no_token"
    ],
    "over the rate or cost bucket": [
        "edge/test_rate_limits.py::test_a_viewer_has_a_bucket_of_operations_over_all_processes",
        "edge/test_rate_limits.py::test_operations_have_a_cost",
    ],
    "the database is away": [
        "test_database_away.py"
        "::test_while_the_database_is_frozen_everything_is_answered_with_503_in_time"
    ],
    "an operation that takes too long": [
        "edge/test_http.py::test_an_operation_has_a_limit_of_time"
    ],
    "our own fault": ["edge/test_execution.py::test_a_fault_of_ours_is_masked"],
}
GRAPHQL = {
    "a syntax error, nesting": ["edge/test_http.py::test_a_document_that_is_none_has_a_code"],
    "unknown names, circular fragments, two subscription fields, no suggestions": [
        "edge/test_hostile_documents.py::test_a_document_is_refused_in_few_words",
        "edge/test_strictness.py::test_a_subscription_has_one_field",
    ],
    "several operations and no name, an unknown one, an empty one": [
        "edge/test_execution.py::test_what_stops_an_operation_before_it_runs_is_data",
        "edge/test_parameters.py::test_an_empty_operation_name_is_none",
    ],
    "variables": [
        "edge/test_strictness.py::test_a_variable_that_is_refused_is_named",
        "edge/test_http.py::test_an_unknown_enum_value_and_a_ratio_that_is_none_are_bad_input",
        "edge/test_numbers.py::test_a_number_that_is_none_is_an_error_of_the_client",
    ],
    "more than tokens, depth, aliases, directives, root fields, cost, pages, ids": [
        "edge/test_query_cost.py::test_a_document_that_asks_for_too_much_is_refused",
        "edge/test_strictness.py::test_a_document_with_too_many_tokens_is_too_complex",
        "api/test_conversations.py::test_pages_have_a_size",
    ],
    "a cursor that is altered, or of something else": [
        "api/test_conversations.py::test_a_cursor_is_good_for_its_own_list_and_viewer_only"
    ],
    "an id that is unknown, foreign or deleted": [
        "api/test_conversations.py::test_nobody_else_sees_or_touches_a_conversation",
        "api/test_outputs.py::test_nobody_else_retries_or_cancels",
    ],
}
SOCKETS = {
    "another subprotocol": ["edge/test_websocket.py::test_another_subprotocol_is_not_acceptable"],
    "another origin": ["edge/test_websocket.py::test_a_page_of_another_origin_may_not_connect"],
    "no connection_init": [
        "edge/test_websocket.py::test_nobody_may_stay_without_saying_who_they_are",
        "edge/test_client_limits.py::test_a_socket_without_a_token_is_closed",
    ],
    "a token that is missing, bad, expired or revoked": [
        "edge/test_websocket.py::test_without_a_good_token_the_socket_is_closed_4403",
        "edge/test_websocket.py::test_a_socket_is_closed_when_its_token_ends",
        "edge/test_client_limits.py::test_who_is_blocked_is_locked_out_also_while_subscribed",
    ],
    "a second connection_init": [
        "edge/test_websocket.py::test_a_second_connection_init_is_one_too_many"
    ],
    "subscribe before connection_ack": [
        "edge/test_websocket.py::test_subscribing_before_the_acknowledgement_is_unauthorized"
    ],
    "what is no message": [
        "edge/test_websocket.py::test_what_is_no_message_closes_the_socket_4400"
    ],
    "ids and payloads of another type": [
        "edge/test_websocket.py::test_what_is_no_message_closes_the_socket_4400"
    ],
    "an active id again": ["edge/test_websocket.py::test_an_id_in_use_closes_the_socket_4409"],
    "an operation that is not valid": [
        "edge/test_websocket.py::test_a_bad_operation_ends_itself_and_not_the_socket"
    ],
    "more than 50 operations": [
        "edge/test_websocket.py::test_a_socket_serves_fifty_operations_at_once",
        "edge/test_client_limits.py::test_messages_and_operations_of_a_socket_are_settings",
    ],
    "too many sockets": [
        "edge/test_client_limits.py::test_there_may_be_so_many_sockets",
        "edge/test_client_limits.py::test_so_many_sockets_of_an_address_may_wait_for_their_token",
    ],
    "an unknown or foreign id": [
        "api/test_subscriptions.py::test_what_is_not_ones_own_is_not_there"
    ],
    "a cursor of another conversation": [
        "api/test_subscriptions.py"
        "::test_a_cursor_of_another_conversation_is_refused_and_the_socket_lives"
    ],
    "a cursor older than the history": [
        "subscriptions/test_turns.py::test_whoever_comes_back_is_told_what_changed_however_long_ago"
    ],
    "a message that is too large, floods": [
        "edge/test_hostile_sockets.py::test_a_flood_closes_the_socket"
    ],
    "more than 100 messages": [
        "edge/test_hostile_sockets.py::test_a_hundred_messages_are_taken_and_one_more_is_not"
    ],
    "no answer to a ping": [
        "edge/test_client_limits.py::test_a_ping_without_an_answer_ends_a_socket",
        "edge/test_client_limits.py::test_a_ping_that_is_answered_is_followed_by_others",
    ],
    "what is sent is not read": ["edge/test_client_limits.py::test_what_is_not_read_ends_a_socket"],
    "stopping": [
        "edge/test_hostile_sockets.py::test_a_signal_ends_the_process_whatever_its_sockets_do"
    ],
    "an exception in a generator": [
        "edge/test_execution.py::test_a_stream_whose_source_fails_ends_with_the_error"
    ],
}
MUTATIONS = {
    "a prompt that is blank or too long": [
        "api/test_conversations.py::test_a_message_that_cannot_be_seen_is_empty",
        "api/test_conversations.py::test_all_that_is_wrong_is_told_at_once_and_nothing_is_written",
    ],
    "models": [
        "api/test_conversations.py::test_all_that_is_wrong_is_told_at_once_and_nothing_is_written",
        "domain/test_planning.py::test_a_model_that_only_makes_images_from_words_cannot_edit",
        "domain/test_planning.py::test_a_model_that_only_edits_needs_a_reference",
        "domain/test_planning.py::test_twins_are_found_after_aliases_and_siblings_are_resolved",
    ],
    "references and mentions": [
        "api/test_turns.py::test_all_that_is_wrong_with_an_edit_is_told_at_once",
        "domain/test_planning.py::test_an_unknown_mention_says_how_many_references_there_are",
    ],
    "options that the model lacks": [
        "api/test_conversations.py::test_what_a_model_does_not_support_is_refused"
    ],
    "credits, and outputs in flight": [
        "api/test_credits.py::test_nothing_is_done_for_which_there_are_too_few_credits",
        "api/test_credits.py::test_no_more_is_spent_than_was_allowed",
        "api/test_credits.py::test_more_than_so_many_outputs_are_not_at_work_at_once",
    ],
    "a turn that is running": [
        "api/test_turns.py::test_while_nothing_has_landed_there_is_nothing_to_go_on_from"
    ],
    "idempotency keys": [
        "api/test_idempotency.py::test_another_input_under_the_key_is_refused",
        "api/test_idempotency.py::test_a_key_has_a_length",
    ],
    "retries and cancellations": [
        "api/test_outputs.py::test_what_cannot_be_tried_again_is_refused"
    ],
    "operators of MongoDB": [
        "api/test_conversations.py::test_text_that_looks_like_an_operator_is_only_text"
    ],
}
LIMITS = {
    "body, headers, URL": [
        "edge/test_http.py::test_a_body_may_have_256_kilobytes",
        "edge/test_hostile_connections.py::test_a_head_beyond_the_limits_is_refused",
        "edge/test_hostile_connections.py::test_a_head_may_be_as_large_as_the_limits_allow",
    ],
    "time of headers, body, operation, idle connections": [
        "edge/test_hostile_connections.py::test_what_is_never_complete_is_dropped",
        "edge/test_websocket.py::test_a_query_over_a_socket_has_a_limit_of_time",
    ],
    "document": ["edge/test_query_cost.py::test_a_document_that_asks_for_too_much_is_refused"],
    "cost before execution": [
        "edge/test_query_cost.py::test_fifty_turns_with_every_field_are_answered",
        "edge/test_query_cost.py::test_an_exponential_document_costs_nothing",
    ],
    "pages, ids, lists": [
        "api/test_conversations.py::test_pages_have_a_size",
        "edge/test_numbers.py::test_a_long_list_is_refused_before_it_is_read",
    ],
    "requests in flight": [
        "edge/test_client_limits.py::test_a_client_has_so_many_requests_in_flight",
        "edge/test_client_limits.py::test_a_process_has_so_many_requests_in_flight",
        "edge/test_client_limits.py::test_operations_of_a_socket_wait_for_each_other",
    ],
    "sockets, and their age": [
        "edge/test_client_limits.py::test_there_may_be_so_many_sockets",
        "edge/test_client_limits.py::test_an_old_socket_is_closed",
    ],
    "size of an answer": ["edge/test_execution.py::test_an_answer_that_is_too_large_is_an_error"],
    "rate and cost buckets": [
        "edge/test_rate_limits.py::test_who_has_no_token_is_an_address",
        "edge/test_rate_limits.py::test_at_once_all_processes_give_out_no_more_than_a_bucket_has",
    ],
    "subscriptions, waiting events": [
        "edge/test_client_limits.py::test_a_viewer_has_so_many_subscriptions",
        "api/test_subscriptions.py::test_a_slow_listener_gets_the_newest_state_and_not_every_step",
    ],
    "pings, sending": [
        "edge/test_client_limits.py::test_a_ping_without_an_answer_ends_a_socket",
        "edge/test_client_limits.py::test_what_is_not_read_ends_a_connection",
    ],
    "prompt, models, references, images per model": [
        "api/test_conversations.py::test_all_that_is_wrong_is_told_at_once_and_nothing_is_written"
    ],
    "tokens": ["test_auth.py::test_a_token_is_valid_for_the_leeway_beyond_its_end"],
    "lease, heartbeat, sweep": [
        "storage/test_contacts.py"
        "::test_a_process_that_never_lives_for_a_lease_takes_expired_leases",
        "storage/test_contacts.py::test_a_process_that_has_missed_the_database_waits_for_a_lease",
    ],
}
TRANSPORT_WS = {
    "the subprotocol": [
        "edge/test_protocol_sentences.py::test_the_subprotocol_is_the_one_that_was_offered",
        "edge/test_websocket.py::test_another_subprotocol_is_not_acceptable",
    ],
    "ConnectionInit and ConnectionAck": [
        "edge/test_websocket.py::test_nobody_may_stay_without_saying_who_they_are",
        "edge/test_websocket.py::test_a_second_connection_init_is_one_too_many",
    ],
    "Ping and Pong": [
        "edge/test_protocol_sentences.py::test_a_ping_may_come_at_any_time_with_any_payload",
        "edge/test_protocol_sentences.py::test_a_pong_that_nobody_asked_for_is_a_heartbeat",
    ],
    "Subscribe": [
        "edge/test_websocket.py::test_subscribing_before_the_acknowledgement_is_unauthorized",
        "edge/test_websocket.py::test_an_id_in_use_closes_the_socket_4409",
        "edge/test_protocol_sentences.py::test_operations_of_one_socket_run_side_by_side",
        "edge/test_protocol_sentences.py"
        "::test_an_id_is_free_after_an_error_and_after_its_completion",
    ],
    "Next": [
        "edge/test_protocol_sentences.py::test_an_error_of_a_field_is_a_result_and_not_an_error",
        "edge/test_websocket.py::test_queries_and_mutations_go_over_the_socket_too",
    ],
    "Error": [
        "edge/test_protocol_sentences.py::test_an_error_is_the_last_message_of_its_operation",
        "edge/test_websocket.py::test_a_bad_operation_ends_itself_and_not_the_socket",
    ],
    "Complete": [
        "edge/test_websocket.py::test_what_is_completed_says_nothing_more_and_its_id_is_free",
        "edge/test_protocol_sentences.py::test_completing_what_has_ended_or_never_was_does_nothing",
    ],
    "invalid messages": [
        "edge/test_websocket.py::test_what_is_no_message_closes_the_socket_4400",
        "edge/test_protocol_sentences.py::test_what_only_a_server_says_is_no_message_of_a_client",
        "edge/test_protocol_sentences.py::test_more_members_of_a_message_are_ignored",
    ],
}
SERVER_SENT_EVENTS = {
    "a request for one operation, and its stream of events": [
        "edge/test_sse.py::test_a_subscription_is_a_stream_of_events",
        "edge/test_sse.py::test_a_subscription_is_a_stream_where_that_is_accepted",
    ],
    "queries and mutations": [
        "edge/test_sse.py::test_a_query_is_answered_with_json_where_that_is_accepted",
        "edge/test_sse.py::test_a_mutation_may_be_answered_with_events_too",
    ],
    "GET": ["edge/test_sse.py::test_get_opens_a_stream_and_runs_no_mutation"],
    "what is wrong before the stream begins": [
        "edge/test_sse.py::test_what_is_wrong_before_the_stream_begins_is_answered_as_ever",
        "edge/test_sse.py::test_a_token_that_is_none_opens_no_stream",
    ],
    "complete": [
        "edge/test_sse.py::test_a_subscription_that_fails_says_so_and_is_complete",
        "edge/test_sse.py::test_the_end_of_the_token_ends_the_stream",
    ],
    "a client that leaves": ["edge/test_sse.py::test_a_client_that_leaves_ends_its_subscription"],
    "heartbeats": ["edge/test_sse.py::test_a_silent_stream_has_a_heartbeat"],
    "the single connection mode": [
        "edge/test_sse.py::test_the_single_connection_mode_is_not_spoken"
    ],
}
PROMISES = {
    "P7: foreign ids": [
        "promises/test_foreign_ids.py::test_a_foreign_id_is_answered_as_one_that_nobody_has",
        "promises/test_foreign_ids.py::test_a_token_that_has_ended_is_no_token",
    ],
    "P8: no input is an error of ours": [
        "promises/test_inputs.py::test_no_body_is_an_error_of_ours",
        "promises/test_inputs.py::test_no_frame_is_an_error_of_ours",
        "edge/test_hostile_inputs.py::test_no_input_is_an_error_of_ours",
    ],
    "P9: no request starves the others": [
        "edge/test_hostile_documents.py::test_a_document_is_refused_in_few_words",
        "edge/test_hostile_documents.py::test_what_asks_for_too_much_is_refused",
        "edge/test_hostile_documents.py::test_what_is_served_holds_up_nobody",
        "edge/test_hostile_documents.py"
        "::test_many_long_documents_of_one_client_do_not_hold_up_another",
    ],
    "P10: slow and silent clients": [
        "promises/test_clients_that_stall.py::test_sockets_that_never_say_who_they_are_are_dropped",
        "promises/test_clients_that_stall.py::test_sockets_that_read_nothing_are_dropped",
        "edge/test_hostile_connections.py::test_what_comes_in_drips_is_dropped",
    ],
    "P12: the database may go away": [
        "resilience/test_frozen_database.py"
        "::test_while_the_database_is_away_each_mutation_is_told_so_and_what_was_bought_is_kept",
        "resilience/test_frozen_database.py"
        "::test_a_database_that_stands_still_closes_no_socket_and_everything_goes_on_by_itself",
    ],
    "P15: rights end when they end": [
        "edge/test_websocket.py::test_a_socket_is_closed_when_its_token_ends",
        "edge/test_client_limits.py::test_who_is_blocked_is_locked_out_also_while_subscribed",
        "api/test_subscriptions.py::test_deleting_the_conversation_completes_both_subscriptions",
        "test_auth.py::test_a_withdrawn_key_lets_nobody_in_any_more",
    ],
    "P18: no leak over time": [
        "promises/test_clients_that_stall.py::test_who_comes_and_goes_leaves_nothing"
    ],
    "P19: secrets stay secret": [
        "promises/test_inputs.py::test_nothing_secret_is_in_what_operators_read",
        "tracing/test_traces.py"
        "::test_one_trace_leads_from_the_request_to_the_landing_in_a_worker_and_to_the_webhook",
    ],
    "P20: the protocols are kept": [
        "edge/test_npm_clients.py::test_the_audits_of_graphql_http_find_nothing",
        "test_contract.py::test_the_exported_schema_is_the_committed_one",
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
def test_a_row_has_its_tests(row: str, tests: list[str]) -> None:
    assert tests, row
    for test in tests:
        path, _, name = test.partition("::")
        assert name in functions_of(path), test


def test_no_table_has_lost_a_row() -> None:
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
