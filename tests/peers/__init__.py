"""Bugs that other servers of this protocol shipped, and what keeps each from happening here.

A name without a folder is a test beside this file; ``test_table.py`` checks that every test named here exists, and that
every test of this folder is named here.

A server with one file per stream, the reference for development
----------------------------------------------------------------
an append that closes woke readers at the old offset: the last message was lost
    test_closure.py::test_an_append_that_closes_reaches_a_waiting_long_poll
    test_closure.py::test_an_append_that_closes_reaches_an_open_sse_read
a torn tail was kept, and what was acknowledged behind it could not be read
    test_durability.py::test_appends_behind_a_torn_tail_are_read
    tests/storage/test_rocks_recovery.py::test_a_torn_tail_is_cut
an acknowledged close was lost when it raced an append; a delete that raced one brought the stream back, appends hung
    test_closure.py::test_an_acked_close_stays_when_it_races_an_append
    test_races.py::test_racing_operations_answer_as_if_one_came_after_the_other
SSE on a deleted stream stayed open for ever, with a second head in the log
    test_live.py::test_sse_on_a_deleted_stream_ends
beyond 2 GiB a restart set the tail to 0, and reads were empty and up to date
    test_positions.py::test_a_stream_goes_on_beyond_two_gibibytes
    test_positions.py::test_a_stream_goes_on_beyond_two_gibibytes_on_disk
    test_positions.py::test_a_body_beyond_two_gibibytes_is_refused_by_its_length
an offset past the tail was answered with the tail
    test_live.py::test_a_read_is_answered_with_the_offset_it_asked_for
only lower case closed
    test_closure.py::test_a_close_is_asked_for_in_any_case
    tests/gateway/test_headers.py::test_only_true_closes
whole files were read on the event loop, for one response; no bound on a body; a write at every read
    test_wire.py::test_a_response_is_bounded_whatever_is_stored
    tests/gateway/test_http_scripts.py::test_http[append]
    test_cost.py::test_a_read_writes_nothing
several JSON arrays came before one control event
    test_live.py::test_each_page_of_an_sse_catch_up_has_its_own_control_event
an endpoint made for tests could be reached
    test_wire.py::test_a_path_that_is_nobodys_is_not_found
a signing key that changes at a restart, addresses of webhooks judged by their text, subscriptions kept in memory only
    cannot occur here: there are no webhooks and no subscriptions yet

A plugin of a web server
------------------------
when a stream was used last was not stored: after a restart all sliding windows had ended
    test_durability.py::test_a_sliding_window_outlives_a_restart
after a restart a fork had lost what it inherits
    test_forks.py::test_a_fork_keeps_what_it_inherits_over_a_restart
one lock through each sync: a slow disk stopped all streams, and reads
    test_cost.py::test_a_disk_that_hangs_stops_no_reader
the producer's state was older than the data after a crash: a retry was stored twice
    test_durability.py::test_the_retry_of_a_producers_batch_is_stored_once_whenever_the_crash_came
errors of metadata writes were swallowed
    tests/storage/test_rocks.py::test_a_failure_is_for_ever_and_never_retried
    tests/runtime/test_service.py::test_a_write_that_breaks_the_store_is_fatal
a write that failed half-way, or an item too large in a batch, left bytes and shifted later offsets
    test_wire.py::test_a_body_that_ends_before_its_time_leaves_nothing
    test_wire.py::test_a_batch_with_a_bad_message_leaves_none_of_it
readers saw bytes that were not synced, and half a frame
    test_durability.py::test_nobody_sees_what_is_not_durable
    test_durability.py::test_a_stream_that_is_created_or_deleted_is_so_only_once_that_is_durable
    tests/replica/test_turns.py::test_nothing_is_applied_visible_or_answered_before_it_is_durable
an offset that a client invented was read as a length
    test_live.py::test_an_offset_inside_an_append_is_no_place_to_read_from
a PUT with a chunked body was taken for an empty one
    test_wire.py::test_the_chunks_of_a_body_are_its_content
a long-poll failed when its stream was deleted; a wake between read and wait was lost; a fork's source woke nobody
    test_live.py::test_a_long_poll_on_a_deleted_stream_is_answered
    test_live.py::test_no_wake_is_lost_between_read_and_wait
    test_live.py::test_no_end_is_lost_between_read_and_wait
    test_live.py::test_the_end_of_a_streams_time_reaches_who_waits
    test_forks.py::test_the_deletion_of_a_source_wakes_its_readers_and_leaves_those_of_its_forks
what had expired was never cleaned up, and the clean-up did not look for forks
    tests/runtime/test_lifetime.py::test_the_job_ends_what_nobody_asks_for
    test_forks.py::test_the_end_of_a_source_keeps_the_data_of_its_forks
the ETag was the next offset alone: a 304 hid the closure, and two ranges shared a tag
    test_closure.py::test_an_etag_does_not_hide_the_closure
    test_closure.py::test_two_ranges_never_share_an_etag
each SSE connection looked for news ten times a second
    test_live.py::test_idle_readers_poll_nothing

A server with a sharded log and a file per stream
-------------------------------------------------
a failed fsync was tried again, and "succeeded"
    tests/storage/test_rocks.py::test_a_failure_is_for_ever_and_never_retried
    tests/runtime/test_service.py::test_a_failed_sync_ends_everything_and_nothing_in_flight_is_called_stored
a start overwrote log segments that were sealed, or recycled ones
    tests/storage/test_rocks_recovery.py::test_two_live_wals_are_read_in_turn
    tests/storage/test_rocks_recovery.py::test_a_loss_in_the_middle_is_refused
    cannot occur here besides: log files are not recycled
a checkpoint that failed forgot what it was about
    tests/storage/test_rocks.py::test_a_failure_is_for_ever_and_never_retried
a torn tail showed on streams that the log did not mention
    cannot occur here: a stream has no file of its own; what is in the database is what the log brought there
an acknowledged delete was not logged, nor were other changes
    test_durability.py::test_a_crash_takes_back_nothing_that_was_acknowledged_whatever_it_was
an append that was answered 500 appeared later, or its retry was taken for a duplicate
    test_durability.py::test_an_append_without_an_answer_is_not_called_refused_and_its_retry_is_no_second_one
    test_durability.py::test_a_close_without_an_answer_may_be_asked_again
    tests/runtime/test_storms.py::test_a_storm_loses_doubles_and_invents_nothing
directories were not synced
    test_durability.py::test_the_database_has_its_name_before_anything_is_acknowledged
    tests/storage/test_data_dir.py::test_each_new_directory_is_synced_into_the_one_above
a damaged side file, or a volume that was not mounted, made the start delete data
    tests/storage/test_rocks_recovery.py::test_a_flipped_bit_is_refused
    tests/storage/test_rocks_recovery.py::test_a_missing_database_is_refused
    tests/storage/test_data_dir.py::test_data_without_a_format_is_refused
    and nothing is deleted at a start; an empty directory where the volume should be is a new node, as a first start is
a sync for each stream; a file renamed for each append
    test_cost.py::test_a_thousand_streams_are_created_and_appended_to_with_a_few_syncs
    test_cost.py::test_an_operation_writes_no_more_when_a_thousand_came_before_it
all that was left came in one response, and four readers took all memory
    test_wire.py::test_a_response_is_bounded_whatever_is_stored
    tests/gateway/test_serve_bounds.py::test_a_slow_reader_holds_the_application_back_and_is_cut
the sub-offset of a fork counted commas
    test_forks.py::test_a_sub_offset_counts_messages_and_not_commas
a line end split over two chunks became two
    test_wire.py::test_a_line_end_split_over_two_appends_is_one_line_end
    test_wire.py::test_a_line_end_at_a_fork_point_is_one_line_end
    tests/gateway/test_sse.py::test_slices_do_not_show
nothing refused work under overload
    tests/runtime/test_service.py::test_bytes_and_operations_in_flight_are_bounded_and_freed
the default data directory was a temporary one
    tests/test_config.py::test_defaults
a variable of the environment turned syncing off
    cannot occur here: no setting is about syncing but --in-memory, which has no directory
a consensus library had a bug in its safety
    tests/replica/test_turns.py::test_crash_at_every_point
    tests/raft/test_scripts.py::test_script
figures in which syncing was faster than not syncing were published
    cannot concern a node: benchmarks/ counts the syncs of each server from outside

Others
------
an authorised stream was cached by shared caches
    cannot occur here yet: there is no authorisation, and every stream is public to who can reach the node
connections that wait cost money by the second; requests of workers are not collapsed
    cannot occur here: that is the bill of a platform
query strings, and with them tokens, were in the logs
    test_wire.py::test_what_a_query_holds_is_in_no_log
append and close were two steps
    test_closure.py::test_a_crash_leaves_the_last_append_and_the_closure_or_neither
the largest TTL overflowed
    test_durability.py::test_a_ttl_of_any_size_is_kept_or_refused
a failed import deleted the original; a second router overwrote subscriptions
    cannot occur here yet: there is no import and no second router
a retried fork was counted twice; the alarm of a window was not set again
    test_forks.py::test_a_fork_asked_for_twice_is_one_reference
    test_forks.py::test_forks_that_race_with_deletes_are_counted_right
    tests/runtime/test_lifetime.py::test_the_job_ends_what_nobody_asks_for
health checks and preflight requests needed the key
    tests/observe/test_health.py::test_live_although_not_ready
    tests/gateway/test_http_scripts.py::test_http[cors]
a restore forgot the producers; tiers lagged behind what was acknowledged
    cannot occur here yet: there is no restore and no second tier
a route that did not match was 200 and empty
    test_wire.py::test_a_path_that_is_nobodys_is_not_found
two processes on one directory
    tests/storage/test_rocks.py::test_one_process_holds_it
"done" was only a message, which who was not listening never got
    test_closure.py::test_the_end_is_told_to_who_comes_late_and_after_a_restart
event ids were compared as text, and repeated
    tests/streams/test_offsets.py::test_text_sorts_by_generation_then_position
dead connections went unseen; a long-poll was never answered; readers were cut off at a restart
    tests/gateway/test_http_scripts.py::test_http[sse]
    tests/gateway/test_http_scripts.py::test_http[long_poll]
    test_live.py::test_a_drain_ends_live_reads_with_their_offset
everything was written again for each token
    test_cost.py::test_an_operation_writes_no_more_when_a_thousand_came_before_it
redirects to a leader; nodes that trust whoever calls
    cannot occur here yet: a node is alone
no way from one stored format to the next
    tests/compat/test_formats.py::test_opens_and_shows_what_was_stored
creating streams crept at a thousand; a fixed wait made single writers slow
    test_cost.py::test_a_thousand_streams_are_created_and_appended_to_with_a_few_syncs
    test_cost.py::test_an_idle_node_answers_after_one_sync_and_no_wait
"""
