"""The bank: known bugs, each planted behind a switch of the checked build, with who must find it and how soon.

A planted bug stands where an engineer could have made it, as ``PLANTED("name")`` in native code and ``planted("name")`` in the
control plane, and is switched on by ``STREAMDSL_PLANT=name``. `BB-nn` numbers the public bug reports that it stands for (one that
has none is a mistake of our own kind). To add one: plant it, and give it a line here; `test_bank` holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BANK", "Planted"]


@dataclass(frozen=True, slots=True)
class Planted:
    """One bug.

    Parameters
    ----------
    name : str
        Its switch.
    what : str
        What goes wrong.
    finder : str
        "simulator", "power cut", "kills", or the id of a test that must fail.
    bound : int
        Seeds, disk states or kills within which it must be found; 1 for a test.
    known_as : str
        The bug reports that it stands for.
    """

    name: str
    what: str
    finder: str
    bound: int
    known_as: str = ""


#: A bound is five times the latest of three detections, so that another draw of the seeds does not make it fail.
BANK = (
    # State and its write stream.
    Planted("dirty-mark-missed", "a changed row is not noted for the next checkpoint", "simulator", 1000, "BB-21"),
    Planted("pending-row-not-copied", "a row changes before it was written for the barrier behind it", "simulator", 4000, "BB-21"),
    Planted("mark-before-rows", "MARK n stands in front of the rows of checkpoint n", "simulator", 130, "BB-03"),
    Planted(
        "second-barrier-forgets-pending",
        "rows still pending are forgotten when the next barrier begins",
        "tests/state/test_write_stream.py::test_a_barrier_finishes_the_one_before",
        1,
    ),
    Planted("delete-missing", "a row that is removed stays in the database", "simulator", 4600, "BB-08"),
    Planted("offsets-without-state", "the checkpoint has the new positions and the old state", "simulator", 100, "BB-20 BB-21"),
    Planted("ttl-not-refreshed", "setting a value again keeps its old time to live", "simulator", 2400, "BB-27"),
    Planted(
        "base-before-backlog", "a new base is made before the database has all that stands before its MARK", "simulator", 2000, "BB-21"
    ),
    Planted("journal-not-whole", "a journal that could not be written still counts", "simulator", 3000, "BB-12"),
    Planted("journal-not-synced", "a checkpoint shares a journal that was not synced", "simulator", 260, "BB-05 BB-06"),
    # Rows that leave memory.
    Planted("evicted-before-applied", "a row leaves when it is in the stream, not when the database has it", "simulator", 2000, "BB-20"),
    Planted("changed-row-evicted", "a row leaves that has changed since it was written", "simulator", 30000, "BB-21"),
    Planted("evicted-ahead-of-mark", "a row that changed behind a barrier is written in front of its MARK", "simulator", 6000, "BB-21"),
    Planted("cold-key-taken-for-new", "a key whose row is in the database alone begins anew", "simulator", 2000, "BB-08"),
    Planted(
        "memory-of-rows-given-back",
        "a page whose memory goes back still has rows",
        "tests/state/test_key_table.py::test_memory_of_pages_that_have_emptied_is_given_back_and_used_again",
        1,
    ),
    # Barriers, sources, the coordinator.
    Planted("no-alignment", "an input whose barrier has come is read on", "simulator", 1300, "BB-09"),
    Planted("end-unblocks", "END on one input ends the alignment of the others", "simulator", 3200, "BB-01"),
    Planted("offset-ahead", "the position in the checkpoint is that of the end of the chunk", "simulator", 350, "BB-20"),
    Planted("tail-not-committed", "a bounded run ends without its last checkpoint", "simulator", 52, "BB-01 BB-02"),
    Planted("manifest-before-files", "the manifest is published before the stores have written", "simulator", 52, "BB-03 BB-04"),
    Planted(
        "id-used-again",
        "after a restart the id of an abandoned checkpoint is given again",
        "tests/recovery/test_coordinator.py::test_ids_are_never_used_twice",
        1,
        "BB-18",
    ),
    Planted(
        "abandoned-store-counts",
        "a store's answer for an abandoned checkpoint counts for the next",
        "tests/recovery/test_coordinator.py::test_a_late_answer_of_a_store_does_not_count_for_the_next",
        1,
        "BB-02",
    ),
    Planted("retention-removes-newest", "retention removes the checkpoint just published", "simulator", 130, "BB-04"),
    # Restore and rescale.
    Planted("shard-lost", "a restore by shards leaves one out", "simulator", 1200, "BB-24 BB-25"),
    Planted("shard-owned-twice", "two tasks own a shard", "simulator", 1500, "BB-25 BB-26"),
    Planted("timers-not-restored", "timers are in the state and not in the heap", "simulator", 2600, "BB-24"),
    Planted("fired-timer-kept", "a timer that has fired fires again after a restore", "simulator", 1600, "BB-08"),
    Planted("cold-timer-passed", "a timer that becomes cold in front of where the next ones are looked for is passed", "simulator", 2200),
    Planted(
        "put-off-timer-lost",
        "a timer that on_timer sets for its own moment is not set in the next advance",
        "tests/processor/test_timers.py::test_a_timer_for_now_waits_for_the_next_advance",
        1,
    ),
    Planted("windows-not-restored", "windows are in the state and never close", "simulator", 130, "BB-08"),
    Planted("lag-not-restored", "lag() begins anew after a restore", "simulator", 520),
    Planted("lag-not-rotated", "the ring of lag(n) is written as it lies, and read as if its oldest came first", "simulator", 13000),
    Planted("rolling-not-restored", "a rolling frame begins anew after a restore", "simulator", 9000),
    # Time.
    Planted(
        "watermark-not-in-snapshot",
        "a split's watermark is not kept",
        "tests/power/test_time_is_kept.py::test_a_partition_that_says_nothing_more_does_not_hold_back_what_it_let_pass_before_the_crash",
        1,
        "BB-08",
    ),
    Planted(
        "session-gap-exclusive",
        "records exactly a gap apart are in two sessions",
        "tests/windows/test_rules.py::test_records_exactly_a_gap_apart_are_in_one_session",
        1,
    ),
    Planted(
        "session-merge-forgotten",
        "of two sessions that become one, the records of the second are lost",
        "tests/windows/test_rules.py::test_a_late_record_unites_two_open_sessions",
        1,
    ),
    Planted(
        "session-withdrawn-twice",
        "a session that has been withdrawn is replaced, not added again",
        "tests/windows/test_rules.py::test_a_session_that_grows_withdraws_its_old_bounds_once",
        1,
    ),
    Planted(
        "sliding-window-begins-empty",
        "a sliding window lacks the records that came before it was made",
        "tests/windows/test_rules.py::test_a_sliding_window_begins_with_the_records_that_are_in_it",
        1,
    ),
    Planted(
        "deadlines-unsorted",
        "windows that close together come out in the order in which they were opened",
        "tests/semantics/test_windows.py::test_windows_close_in_order_of_end_then_start_then_key",
        1,
    ),
    Planted(
        "long-keys-unsorted",
        "windows that close together are sorted by the first bytes of their keys alone",
        "tests/state/test_deadline_sort.py::test_any_deadlines",
        1,
    ),
    Planted(
        "mean-of-nothing-among-others",
        "where no number has come, the mean is no null if other windows close beside it",
        "tests/windows/test_rules.py::test_a_mean_of_no_number_is_null_beside_others",
        1,
    ),
    Planted(
        "window-closed-in-its-grace",
        "a window that was shown on time takes no late records",
        "tests/windows/test_rules.py::test_a_window_shown_on_time_takes_late_records_within_grace",
        1,
    ),
    Planted(
        "state-of-another-condition",
        "aggregates over different rows share a state",
        "tests/aggregates/test_withdrawn.py::test_results_of_one_state_are_those_of_their_own",
        1,
    ),
    Planted(
        "pane-added-in-part",
        "one aggregate of a pane is left out of a window",
        "tests/windows/test_panes.py::test_windows_of_panes",
        1,
    ),
    Planted(
        "outlived-frame-kept",
        "keys whose rolling frames the watermark has passed stay in the state",
        "tests/semantics/test_frames.py::test_what_the_watermark_has_passed_is_forgotten_with_its_key",
        1,
    ),
    Planted(
        "frame-forgotten-early",
        "a key is forgotten while a record may still see what it has",
        "tests/semantics/test_frames.py::test_what_the_watermark_has_passed_is_forgotten_with_its_key",
        1,
    ),
    Planted(
        "closed-key-kept",
        "keys whose windows have closed stay in the state",
        "tests/windows/test_rules.py::test_keys_that_do_not_come_again_leave_nothing",
        1,
    ),
    Planted("time-ahead-of-windows", "the watermark is passed on before the windows that it closes", "simulator", 760),
    Planted(
        "sources-not-in-time-order",
        "a source emits a whole batch, however far others are behind",
        "tests/semantics/test_event_order.py::test_an_enrichment_sees_what_was_true_at_the_time",
        1,
    ),
    Planted("late-test-after-batch", "a batch is judged by the watermark that it makes itself", "simulator", 150, "BB-10"),
    Planted("batch-not-cut", "a batch is not cut in front of a late record", "simulator", 3400, "BB-10"),
    Planted(
        "idle-input-holds-watermark",
        "an idle input holds the watermark back",
        "tests/semantics/test_time.py::test_an_idle_partition_steps_aside_and_does_not_pull_time_back",
        1,
        "BB-11",
    ),
    Planted(
        "woken-input-holds-watermark",
        "an input that wakes behind the watermark holds it back",
        "tests/semantics/test_time.py::test_an_idle_partition_steps_aside_and_does_not_pull_time_back",
        1,
        "BB-11",
    ),
    # Windows, emissions and merges.
    Planted("window-ends-late", "a tumbling or hopping window is a moment longer than its size", "simulator", 50),
    Planted(
        "window-takes-at-its-end",
        "a window whose last moment and grace the watermark has just reached still takes records",
        "tests/windows/test_rules.py::test_a_window_shown_on_time_takes_late_records_within_grace",
        1,
    ),
    Planted("grace-forgotten-at-close", "windows close in front of their grace", "simulator", 8000),
    Planted(
        "on-time-once-only",
        "a late record within grace is added and not shown",
        "tests/windows/test_rules.py::test_a_window_shown_on_time_takes_late_records_within_grace",
        1,
    ),
    Planted("throttle-last-row-lost", "what has changed since a throttled window was shown last is never shown", "simulator", 600),
    Planted(
        "throttle-merge-forgotten",
        "a session that begins earlier has changed under a start that is gone, and is not shown at its time",
        "tests/windows/test_rules.py::test_a_throttled_session_that_begins_earlier_is_shown_at_its_time",
        1,
    ),
    Planted(
        "throttle-not-restored",
        "windows that have changed wait after a restore until something else changes",
        "tests/windows/test_rules.py::test_windows_that_wait_at_a_crash_are_shown_at_once_after_it",
        1,
    ),
    Planted(
        "throttle-does-not-wait",
        "throttled windows are shown whenever they change",
        "tests/windows/test_rules.py::test_throttled_windows_leave_once_per_period_and_at_the_close",
        1,
    ),
    Planted("count-window-too-long", "a count window takes a record too many", "simulator", 1300),
    Planted("seen-not-restored", "count windows that overlap begin elsewhere after a restore", "simulator", 2100),
    Planted(
        "sliding-window-behind-missing",
        "the sliding window that begins just behind a record is not made if later records are there already",
        "simulator",
        250,
    ),
    Planted(
        "lists-merged-by-side",
        "the values of two lists come out one list after the other",
        "tests/windows/test_rules.py::test_united_sessions_keep_the_order_of_arrival",
        1,
    ),
    Planted(
        "registers-not-merged",
        "of two sketches of different values the second is lost",
        "tests/aggregates/test_sketches.py::test_different_values_are_counted_within_the_stated_error",
        1,
    ),
    Planted(
        "digest-merge-forgets-groups",
        "of two digests only the values that stand alone are united",
        "tests/aggregates/test_sketches.py::test_a_digest_stands_within_one_percent_of_the_ranks",
        1,
    ),
    # Joins, tables that change, deduplication, calls.
    Planted(
        "join-before-exclusive",
        "a right row exactly `before` in front of a left one is no partner",
        "tests/joins/test_interval.py::test_the_library_says_so",
        1,
    ),
    Planted(
        "join-after-too-long",
        "a right row a moment later than `after` is a partner",
        "tests/joins/test_interval.py::test_the_library_says_so",
        1,
    ),
    Planted(
        "join-takes-late-row",
        "a row that is late by nothing is taken",
        "tests/joins/test_interval.py::test_the_library_says_so",
        1,
    ),
    Planted(
        "join-match-forgotten",
        "a row that has matched comes out unmatched, too",
        "tests/joins/test_interval.py::test_the_library_says_so",
        1,
    ),
    Planted("join-match-not-restored", "a row that matched before the crash comes out unmatched after it", "simulator", 7500),
    Planted("join-unmatched-twice", "a row without a partner comes out for each deadline of its key", "simulator", 500),
    Planted(
        "join-unmatched-never", "a row without a partner counts as matched", "tests/joins/test_interval.py::test_the_library_says_so", 1
    ),
    Planted("join-row-freed-early", "a row is freed a moment before the last one that it may match", "simulator", 1500),
    Planted(
        "join-room-noted-once",
        "rows that need not come out stay for ever behind the first deadline of their key",
        "tests/joins/test_kept_rows.py::test_a_key_without_pause_keeps_few_rows_and_one_deadline",
        1,
    ),
    Planted(
        "bootstrap-not-awaited",
        "a stream begins before the table that it is joined with has been read",
        "tests/joins/test_bootstrap.py::test_a_live_stream_waits_for_a_live_table",
        1,
    ),
    Planted(
        "right-row-as-left",
        "a processor of two inputs gets the rows of the right one as if they were of the left",
        "tests/joins/test_connect.py::test_both_sides_share_their_state",
        1,
    ),
    Planted("join-passes-time-on", "the watermark passes rows that wait for a partner: they are late behind the join", "simulator", 1800),
    Planted("join-deadlines-not-restored", "rows that wait for a partner are in the state and never come out", "simulator", 1400),
    Planted("ties-reversed", "of rows of one time the last to come stands first", "simulator", 10000),
    Planted(
        "asof-takes-later-row",
        "a row a moment later than the record is its as-of row",
        "tests/joins/test_enrichment.py::test_as_of_in_any_order_of_arrival",
        1,
    ),
    Planted(
        "asof-tolerance-exclusive",
        "a row exactly `tolerance` old is too old",
        "tests/joins/test_enrichment.py::test_as_of_in_any_order_of_arrival",
        1,
    ),
    Planted(
        "asof-latest-freed",
        "the last row at or below the watermark is freed, though later records ask for it",
        "tests/joins/test_enrichment.py::test_as_of_in_any_order_of_arrival",
        1,
    ),
    Planted("joined-row-not-withdrawn", "a row of two tables stays when one of them has lost its part", "simulator", 2300),
    Planted("joined-row-added-twice", "a joined row that changes is added, and not replaced", "simulator", 1500),
    Planted("named-row-not-withdrawn", "rows that name a row of another table keep it when it goes", "simulator", 4000),
    Planted(
        "version-of-later",
        "a version may be a little later than the record that asks for it",
        "tests/joins/test_versioned.py::test_history_out_of_order_meets_what_was_true",
        1,
    ),
    Planted(
        "broadcast-not-restored",
        "a table that every task has is empty after a restore",
        "tests/joins/test_broadcast.py::test_a_run_goes_on_with_the_table_it_had",
        1,
    ),
    Planted("old-row-not-withdrawn", "a row that changes its group is counted in both", "simulator", 950),
    Planted(
        "tombstone-ignored",
        "a tombstone leaves the row of the table where it is",
        "tests/joins/test_enrichment.py::test_only_the_stream_side_emits_and_a_tombstone_withdraws",
        1,
    ),
    Planted(
        "duplicate-at-its-end",
        "a record exactly `within` away is a duplicate",
        "tests/semantics/test_deduplicate.py::test_a_duplicate_lies_less_than_the_time_away_before_or_after",
        1,
    ),
    Planted(
        "duplicate-forgotten-early",
        "a record is forgotten a moment before the last duplicate that it may have",
        "tests/semantics/test_deduplicate.py::test_a_duplicate_is_known_up_to_the_last_moment",
        1,
    ),
    Planted("duplicates-not-restored", "what has been seen is forgotten at a crash", "simulator", 5800),
    Planted("call-in-flight-lost", "calls under way at a checkpoint are not made again", "simulator", 5000),
    Planted("ended-call-not-kept", "a call that has ended and waits for an earlier one is not in the checkpoint", "simulator", 6000),
    Planted("watermark-passes-call", "a watermark does not wait for the calls in front of it", "simulator", 650),
    Planted(
        "marks-between-calls-lost",
        "a checkpoint does not hold the watermarks between calls",
        "tests/processor/test_calls_kept.py::test_what_is_late_behind_a_call_is_late_when_the_call_is_made_again",
        1,
    ),
    Planted(
        "mark-ahead-of-input",
        "a watermark of the checkpoint goes on before the input has said anything",
        "tests/simulation/test_campaign.py::test_watermarks_of_a_checkpoint_wait_for_the_input",
        1,
    ),
    Planted(
        "mark-held-to-what-is-heard-later",
        "a watermark of the checkpoint overtakes rows that the input gives behind it",
        "tests/processor/test_calls_kept.py::test_a_watermark_of_a_call_makes_no_row_late_that_another_task_has_not_read_yet",
        1,
    ),
    Planted("rows-together-not-cut", "a row that is read with others is not late by those in front of it", "simulator", 9000),
    Planted(
        "ending-input-counts",
        "the last watermark of an input that ends carries time past those that are only idle",
        "tests/semantics/test_time.py::test_an_input_that_ends_says_nothing_of_one_that_is_idle",
        1,
        "BB-11",
    ),
    Planted("rows-pass-closing-windows", "calls give rows to windows that have begun to close", "simulator", 1200),
    Planted(
        "passed-rounds-untold",
        "a task tells of rounds that it passed over only behind the rows of the next one",
        "simulator",
        9000,
    ),
    Planted(
        "rows-of-ended-tasks-late",
        "windows that were restored close behind the end of the input",
        "tests/simulation/test_campaign.py::test_windows_that_are_restored_behind_the_end_close_in_front_of_it",
        1,
    ),
    # Disk.
    Planted("manifest-not-synced", "the manifest is renamed into place before its bytes are synced", "power cut", 2000, "BB-05"),
    Planted(
        "store-files-not-synced",
        "the manifest names files of the database that were not synced",
        "tests/power/test_files_are_synced.py::test_every_file_that_a_manifest_names_was_synced_before_it",
        1,
        "BB-05 BB-06",
    ),
    Planted("names-not-synced-before-manifest", "the manifest may be durable before the files it names are", "power cut", 2000, "BB-06"),
    Planted("rename-not-synced", "a checkpoint is told of before its manifest's name is durable", "power cut", 2000, "BB-05"),
    Planted("checkpoint-directory-not-synced", "the checkpoint's directory is never synced into its parent", "power cut", 2000, "BB-06"),
    # Output.
    Planted("output-not-truncated", "what no checkpoint covers stays in the output file", "kills", 60, "BB-03"),
    Planted(
        "uncommitted-parts-kept",
        "parts of a checkpoint that never completed stay",
        "tests/connectors/test_sink_contract.py::test_what_no_checkpoint_took_disappears",
        1,
        "BB-02",
    ),
    Planted(
        "outbox-not-held",
        "rows behind a barrier are written into the transaction that commits what stands before it",
        "tests/kafka/test_exactly_once.py::test_a_run_that_is_left_at_once",
        1,
        "BB-03 BB-12",
    ),
    Planted(
        "marker-not-in-transaction",
        "a commit does not say which checkpoint it commits",
        "tests/kafka/test_exactly_once.py::test_a_run_goes_on_where_it_was",
        1,
        "BB-03 BB-20",
    ),
    Planted("merge-order-lost", "merged branches come out branch by branch", "simulator", 800),
    Planted(
        "null-keys-miscounted",
        "the rows kept are counted as the rows dropped",
        "tests/semantics/test_keys.py::test_a_null_component_drops_the_record_and_is_counted_and_logged_once",
        1,
        "BB-32",
    ),
)
