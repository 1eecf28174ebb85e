"""How each promise of docs/reliability.md is broken on purpose, and which tests must notice it."""

from __future__ import annotations

from typing import NamedTuple

KIT = "tests/contracts/test_contracts.py"
REGRESSIONS = "tests/faults/test_regressions.py"
ENDINGS = "tests/faults/test_endings.py"
SIGTERM = "test_sigterm_with_the_handler_asked_for_loses_nothing_and_then_does_what_it_would_have"
KILLS = "tests/faults/test_kills.py"
THREADS = "tests/writers/test_threads.py"
CHILD = "tests/faults/test_process_writer.py"
LAWS = "tests/faults/test_process_laws.py"
GAPS = "tests/writers/test_gaps.py"
ROWS = "tests/sinks/test_beaver_rows.py"
INTERRUPTED = "tests/faults/test_interrupted.py"
QUARANTINE = "tests/writers/test_quarantine.py"
JSONL = "tests/sinks/test_jsonl.py"
BEAVER = "tests/sinks/test_beaver.py"
BOOKS, DELIVERY = "ferret/writers/books.py", "ferret/writers/delivery.py"
LETTING_GO = "tests/writers/test_letting_go.py"
TREES = "tests/running/test_trees.py"
OTLP = "tests/exporting/test_otlp.py"
COUNTS, LIVE = "ferret/ledger/counts.py", "ferret/ledger/live.py"


class Mutation(NamedTuple):
    """One line of the source, made wrong.

    Attributes:
        promise: the beginning of the promise in the table of docs/reliability.md.
        file: the file that is changed.
        old: what stands there, once.
        new: what stands there instead.
        tests: pytest's names of tests; each must fail, for at least one of the parameters that it is run with.
    """

    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = [
    Mutation(
        "`recorded = written + dropped + failed + pending`",
        BOOKS,
        "        pending = self._pending()",
        "        pending = len(self.queue)",
        (f"{KIT}::TestThreaded::test_a_look_while_the_sink_works_misses_no_span",),
    ),
    Mutation(
        "`recorded = written + dropped + failed + pending`",
        BOOKS,
        "written=len(batch), stored=1)",
        "written=1, stored=1)",
        ("tests/writers/test_conservation.py::test_nothing_is_lost_on_close[threaded]",),
    ),
    Mutation(
        "What the ledger calls written is stored",
        BOOKS,
        "records.extend(itertools.starmap(self.queue.popleft, itertools.repeat((), count)))",
        "records.extend(itertools.starmap(self.queue.pop, itertools.repeat((), count)))",
        (
            f"{KIT}::TestThreaded::test_every_program_keeps_the_laws",
            f"{THREADS}::test_eight_threads_then_close_stores_every_span_once_and_in_order",
        ),
    ),
    Mutation(
        "The ledger is exact however many threads",
        COUNTS,
        "        self.draw = _none_left\n        follower.draw = _none_left\n        self.cells[BLOCK] = 0\n",
        "        self.cells[BLOCK] = 0\n",
        ("tests/writers/test_counts.py::test_many_threads_and_somebody_who_looks_all_the_time_lose_nothing",),
    ),
    Mutation(
        "Each process has a ledger of its own",
        COUNTS,
        "        old, self.cells = self.cells, _plain_cells()\n",
        "        old, self.cells = self.cells, memoryview(bytearray(bytes(self.cells))).cast('Q')\n",
        ("tests/writers/test_counts.py::test_a_forked_child_counts_from_zero_and_leaves_its_parents_count_alone",),
    ),
    Mutation(
        "A true `flush()` means",
        "ferret/writers/threaded.py",
        "        return books.reached(ticket) and books.nothing_lost",
        "        return True",
        (f"{KIT}::TestThreaded::test_flush_is_true_only_once_all_is_stored",),
    ),
    Mutation(
        "A true `flush()` means",
        BOOKS,
        "        return in_flight[0].before >= ticket",
        "        return self._taken() - sum(len(batch) for batch in self.in_flight) >= ticket",
        (f"{REGRESSIONS}::test_a_ticket_is_not_reached_before_the_parts_of_a_batch_that_others_overtook",),
    ),
    Mutation(
        "`flush()` does not wait for what comes after it",
        BOOKS,
        "        return in_flight[0].before >= ticket",
        "        return False",
        (f"{THREADS}::test_flush_does_not_wait_for_what_comes_after_it",),
    ),
    Mutation(
        "`close()` returns within its time",
        "ferret/writers/threaded.py",
        "            worker.join(max(0.0, deadline - time.monotonic()))",
        "            worker.join(20 + max(0.0, deadline - time.monotonic()))",
        (f"{KIT}::TestThreaded::test_close_does_not_wait_for_a_sink_that_hangs",),
    ),
    Mutation(
        "`close()` returns within its time",
        "ferret/writers/queueing.py",
        '            self._books.give_up("close_timeout")',
        "            pass",
        (f"{KIT}::TestThreaded::test_close_does_not_wait_for_a_sink_that_hangs",),
    ),
    Mutation(
        "`close()` returns within its time",
        "ferret/writers/process.py",
        "            self._abandoned = True\n            self._link.kill()",
        "            self._abandoned = True",
        (f"{CHILD}::test_a_sink_that_hangs_in_the_child_does_not_hold_up_the_program",),
    ),
    Mutation(
        "Recording while another thread closes",
        "ferret/writers/queueing.py",
        '            while self._books.drop_newest("closed"):\n                pass',
        '            self.queue.clear()\n            self._books.count_dropped("closed", 2)',
        (f"{THREADS}::test_producers_that_record_while_it_closes_lose_nothing_uncounted",),
    ),
    Mutation(
        "Recording never waits for a sink",
        "ferret/writers/threaded.py",
        "        queued = len(self.queue)\n        self.alarm",
        "        with self._books.settled:\n            queued = len(self.queue)\n        self.alarm",
        (
            "tests/writers/test_hot_path.py::test_recording_goes_on_while_another_thread_holds_every_lock_of_the_writer[threaded]",
        ),
    ),
    Mutation(
        "Recording never waits for a sink",
        "ferret/writers/threaded.py",
        "        if self._wake.empty():  # a worker that hangs",
        "        if not self._flush(15) and self._wake.empty():  # a worker that hangs",
        (f"{THREADS}::test_recording_does_not_wait_for_a_stuck_sink[threaded]",),
    ),
    Mutation(
        "A full queue drops exactly what is too much",
        "ferret/writers/bounded.py",
        "        self._no_alarm = self._config.max_queue + 1",
        "        self._no_alarm = self._config.max_queue + 2",
        (f"{THREADS}::test_a_full_queue_drops_exactly_what_is_too_many",),
    ),
    Mutation(
        "A full queue drops exactly what is too much",
        BOOKS,
        "        self.count_dropped(reason)\n        return True",
        "        self.count_dropped(reason, 2)\n        return True",
        (f"{THREADS}::test_drops_are_counted_exactly_however_many_threads_come_at_once",),
    ),
    Mutation(
        '`overflow="block"` waits for room',
        "ferret/writers/bounded.py",
        '            if self._config.overflow == "block" and self._wait_for_room():',
        '            if self._config.overflow == "block" and not self._wait_for_room():',
        (
            f"{THREADS}::test_block_waits_for_room_and_then_loses_nothing",
            f"{THREADS}::test_block_gives_up_after_its_timeout_and_counts",
        ),
    ),
    Mutation(
        "Recording is safe in signal handlers",
        "ferret/writers/sync.py",
        "            if self._consuming.locked():\n                return True\n",
        "            if self._consuming.locked():\n                self._consuming.release()\n",
        (f"{THREADS}::test_a_signal_handler_may_record_at_any_moment[sync]",),
    ),
    Mutation(
        "Recording is safe in signal handlers",
        "ferret/ambient.py",
        '    return any((one := mark()) is not None and one.owner is owner for mark in getattr(local, "marks", ()))',
        "    return False",
        (f"{KIT}::TestThreaded::test_the_sinks_own_spans_do_not_feed_back",),
    ),
    Mutation(
        "A program that ends by itself loses nothing",
        "ferret/lifecycle.py",
        "atexit.register(close_all)",
        "atexit.register(len, ())",
        (
            f"{ENDINGS}::test_nothing_is_lost_when_a_program_ends_by_itself[pass-0-threaded]",
            f"{ENDINGS}::test_ctrl_c_loses_nothing[threaded]",
        ),
    ),
    Mutation(
        "Ctrl-C, and SIGTERM with the handler, lose nothing",
        "ferret/sigterm.py",
        "    _close_elsewhere(close)\n    if callable(before)",
        "    if callable(before)",
        (f"{ENDINGS}::{SIGTERM}[default-threaded]",),
    ),
    Mutation(
        "SIGKILL leaves whole batches",
        "ferret/models.py",
        "        return any(process.ended_at is None for process in self.processes)",
        "        return False",
        (f"{ENDINGS}::test_a_killed_program_leaves_whole_batches_and_reads_as_unclean[threaded]",),
    ),
    Mutation(
        "SIGKILL leaves whole batches",
        "ferret/sinks/jsonl.py",
        "        if end < size:\n            os.ftruncate(self._file.fileno(), end)",
        "",
        (f"{JSONL}::test_a_sink_in_use_mends_what_a_killed_process_left",),
    ),
    Mutation(
        "Under `process`, a SIGKILL takes no more",
        "ferret/writers/process.py",
        "HAND_OVER_S = 0.1\n",
        "HAND_OVER_S = 10.0\n",
        (f"{LAWS}::test_a_span_is_handed_over_at_once_even_if_its_batch_may_fill_for_an_hour",),
    ),
    Mutation(
        "Under `process`, a SIGKILL takes no more",
        "ferret/writers/child.py",
        "    server.abandoned()\n    return 0",
        "    return 0",
        (f"{LAWS}::test_an_orphaned_child_stores_what_it_got_and_flushes_and_closes_its_sink",),
    ),
    Mutation(
        "A reader knows how many spans a SIGKILL took",
        COUNTS,
        "                self.cells[CLAIMED] += size\n",
        "                self.cells[CLAIMED] += size - (size > 1)\n",
        (f"{KILLS}::test_the_reader_knows_how_many_spans_a_kill_took[5000-threaded]",),
    ),
    Mutation(
        "A reader knows how many spans a SIGKILL took",
        COUNTS,
        "                self.cells[BLOCK] = size  # first, as a kill may come between the two\n"
        "                self.cells[CLAIMED] += size\n",
        "                self.cells[CLAIMED] += size\n                self.cells[BLOCK] = size\n",
        (f"{REGRESSIONS}::test_a_kill_in_the_middle_of_a_claim_leaves_a_count_that_holds",),
    ),
    Mutation(
        "The count is exact up to a thousand spans a second",
        COUNTS,
        "size = max(1, min(MOST_CLAIMED, self._size * 2, self._size * CLAIM_NS // (elapsed or 1)))",
        "size = min(MOST_CLAIMED, self._size * 2 + 0 * elapsed)",
        (f"{KILLS}::test_the_count_is_exact_in_a_program_that_records_at_leisure[threaded]",),
    ),
    Mutation(
        "The count is exact up to a thousand spans a second",
        "ferret/writers/threaded.py",
        "        self.counts.retire()\n        self._note()",
        "        self._note()",
        (f"{KILLS}::test_the_count_is_exact_once_the_writer_has_looked[threaded]",),
    ),
    Mutation(
        "A run that was killed is told from one that still runs",
        LIVE,
        "            return False\n    return True\n\n\ndef _identity",
        "            return False\n    return False\n\n\ndef _identity",
        (f"{KILLS}::test_a_program_that_still_runs_is_told_from_one_that_was_killed[threaded]",),
    ),
    Mutation(
        "What a kill took stays known",
        "ferret/ledger/fates.py",
        '                sink.write_run(facts.model_copy(update={"ledger": ledger, "killed": True}))',
        '                sink.write_run(facts.model_copy(update={"ledger": ledger}))',
        (f"{KILLS}::test_the_next_profiler_puts_the_count_into_the_facts_and_removes_the_file",),
    ),
    Mutation(
        "A batch that was written and is gone is missed",
        "ferret/ledger/fates.py",
        "    if spans <= 0:",
        "    if spans < 0:",
        (f"{REGRESSIONS}::test_numbers_of_batches_that_failed_are_not_taken_for_batches_that_are_missing",),
    ),
    Mutation(
        "A batch that was written and is gone is missed",
        "ferret/ledger/fates.py",
        "        return max(0, ledger.batches - ledger.void_batches - stored.batches)",
        "        return 0",
        (f"{GAPS}::test_the_reader_finds_batches_that_were_written_and_are_gone",),
    ),
    Mutation(
        "The ledger is stored with the run",
        DELIVERY,
        '        return self._finish({"ended_at": time.time(), "ledger": ledger})',
        '        return self._finish({"ended_at": time.time(), "ledger": None})',
        (f"{GAPS}::test_a_full_queue_leaves_a_gap_in_the_stored_facts",),
    ),
    Mutation(
        "The ledger is stored with the run",
        DELIVERY,
        '        self._info = self._info.model_copy(update={"ledger": ledger})\n        self._facts_stored = False',
        '        self._info = self._info.model_copy(update={"ledger": ledger})',
        (f"{GAPS}::test_a_killed_run_has_a_last_known_ledger_with_its_gaps[threaded]",),
    ),
    Mutation(
        "A loss is marked where it happened",
        BOOKS,
        "self._gaps.add(min(one[3] for one in failed), max(one[4] for one in failed), count, failure)",
        "self._gaps.add(0, 0, count, failure)",
        (f"{GAPS}::test_a_gap_says_when_the_spans_of_a_failed_batch_ran[threaded]",),
    ),
    Mutation(
        "A loss is marked where it happened",
        "ferret/ledger/gaps.py",
        "                dropped[reason] = count\n",
        "",
        (f"{GAPS}::test_drops_are_noticed_once_and_lie_between_two_looks",),
    ),
    Mutation(
        "One span that a sink refuses costs no other",
        DELIVERY,
        "                self._refused_in_a_row += 1\n                return self._refused(batch, failure)",
        "                self._refused_in_a_row += 1\n                return failure.kind",
        (f"{QUARANTINE}::test_of_n_spans_with_p_poisoned_ones_exactly_n_minus_p_are_stored[threaded-a value]",),
    ),
    Mutation(
        "One span that a sink refuses costs no other",
        "ferret/writers/child.py",
        "(frame.sequence, verdict.failure, verdict.bad))",
        "(frame.sequence, verdict.failure, None))",
        (f"{QUARANTINE}::test_the_same_through_another_process[unnamed]",),
    ),
    Mutation(
        "What a sink refuses is set aside",
        "ferret/writers/quarantine.py",
        'head = {"at": time.time(), "batch": batch.id, "error": why}',
        'head = {"at": time.time(), "batch": batch.id, "error": ""}',
        (f"{QUARANTINE}::test_the_quarantine_says_what_is_wrong_and_is_private[threaded]",),
    ),
    Mutation(
        "A writing child that dies is replaced",
        "ferret/writers/process.py",
        "            if all(self._send(batch.again()) for batch in list(self._books.in_flight)):",
        "            if self._link.alive:",
        (
            f"{CHILD}::test_a_child_that_dies_is_replaced_and_every_batch_is_stored_once",
            f"{CHILD}::test_a_child_killed_under_load_at_many_moments_loses_nothing",
        ),
    ),
    Mutation(
        "A writer's thread that meets an error goes on",
        "ferret/writers/threaded.py",
        "                self._resume()\n                while self._is_worker() and not self._work_once():",
        "                while not self._work_once():",
        (f"{THREADS}::test_a_worker_that_fails_anywhere_goes_on",),
    ),
    Mutation(
        "No process and no thread is left",
        "ferret/writers/child.py",
        "    server.abandoned()\n    return 0",
        "    server.abandoned()\n    signal.pause()\n    return 0",
        (f"{CHILD}::test_a_killed_program_loses_at_most_what_it_had_not_handed_over[4]",),
    ),
    Mutation(
        "After a fork parent and child each keep their own",
        "ferret/writers/queueing.py",
        "        self._books.reset(origin)\n",
        "",
        (f"{ENDINGS}::test_after_a_fork_parent_and_child_each_keep_their_own[threaded]",),
    ),
    Mutation(
        "After a fork parent and child each keep their own",
        "ferret/ambient.py",
        "    ids.renew()\n    local",
        "    local",
        (f"{ENDINGS}::test_after_a_fork_parent_and_child_each_keep_their_own[threaded]",),
    ),
    Mutation(
        "A forked child goes on when its parent has closed",
        "ferret/sinks/beaver.py",
        "                if connection is not None:\n                    _let_go(connection)",
        "                pass",
        (
            f"{BEAVER}::test_a_forked_child_outlives_its_parents_profiler",
            f"{KIT}::TestBeaver::test_a_forked_child_goes_on_after_its_parent_has_closed",
        ),
    ),
    Mutation(
        "A sink stores a batch whole or not at all",
        "ferret/sinks/jsonl.py",
        "            os.ftruncate(descriptor, end)\n        raise",
        "            os.fstat(descriptor)\n        raise",
        (f"{JSONL}::test_a_write_that_fails_half_way_leaves_the_file_as_it_was",),
    ),
    Mutation(
        "A sink stores a batch whole or not at all",
        "ferret/sinks/beaver.py",
        "            self._connection.execute(sql, values)\n",
        "            with suppress(Exception):\n                self._connection.execute(sql, values)\n",
        (f"{KIT}::TestBeaver::test_a_full_disk_costs_nothing_that_comes_again",),
    ),
    Mutation(
        "A batch that comes again is stored once",
        "ferret/sinks/jsonl.py",
        "if unless_stored is not None and self._holds(unless_stored):",
        "if unless_stored is not None and not unless_stored:",
        (f"{JSONL}::test_a_batch_that_comes_again_in_another_process_is_stored_once",),
    ),
    Mutation(
        "A batch that comes again is stored once",
        "ferret/sinks/beaver.py",
        '/{batch.sequence:010d}"',
        '/{batch.sequence + batch.attempt - 1:010d}"',
        (f"{KIT}::TestBeaver::test_a_batch_that_comes_again_is_stored_once",),
    ),
    Mutation(
        "A failing sink is tried again",
        DELIVERY,
        "        if self._failing and self._in_caller:\n            return True\n        now",
        "        if started:\n            return True\n        now",
        (f"{KIT}::TestThreaded::test_tries_and_successes_are_exactly_what_the_sink_made_of_them",),
    ),
    Mutation(
        "A full disk costs nothing",
        "ferret/sinks/jsonl.py",
        "            rest = rest[os.write(descriptor, rest) :]",
        "            rest = rest[len(rest) + 0 * os.write(descriptor, rest) :]",
        (f"{KIT}::TestJsonl::test_a_full_disk_costs_nothing_that_comes_again",),
    ),
    Mutation(
        "A database that another process has locked is waited for",
        "ferret/sinks/beaver.py",
        "            self._connection.execute(sql, values)\n",
        '            self._connection.execute("PRAGMA busy_timeout = 1")\n'
        "            with suppress(Exception):\n"
        "                self._connection.execute(sql, values)\n",
        (f"{BEAVER}::test_a_file_that_another_process_holds_locked_is_waited_for",),
    ),
    Mutation(
        "Several processes may write one file",
        "ferret/batch.py",
        "        return cls(run_id, secrets.token_hex(8), os.getpid(), ambient.clock.anchor_ns)",
        '        return cls(run_id, "0" * 16, os.getpid(), ambient.clock.anchor_ns)',
        (f"{ENDINGS}::test_several_processes_and_profilers_write_one_file_at_once",),
    ),
    Mutation(
        "A file that was cut anywhere loses no sound batch",
        "ferret/sinks/jsonl.py",
        "    if missing > 0:\n        return start",
        "    if missing > 0:\n        return 0",
        (f"{JSONL}::test_cutting_the_file_anywhere_costs_no_batch_that_was_whole",),
    ),
    Mutation(
        "Files are for their owner only",
        "ferret/sinks/beaver_file.py",
        "os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))",
        "os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))",
        (f"{ROWS}::test_where_there_are_no_hard_links_a_file_is_made_in_its_place",),
    ),
    Mutation(
        "Files are for their owner only",
        "ferret/sinks/beaver_file.py",
        "    os.close(file)  # it is",
        "    os.fchmod(file, 0o644)\n    os.close(file)  # it is",
        (f"{BEAVER}::test_a_file_is_made_for_its_owner_only",),
    ),
    Mutation(
        "Files are for their owner only",
        "ferret/sinks/jsonl_reader.py",
        "os.open(name, flags, 0o600))",
        "os.open(name, flags, 0o644))",
        (f"{JSONL}::test_a_new_file_is_only_for_its_owner",),
    ),
    Mutation(
        "Files are for their owner only",
        "ferret/writers/quarantine.py",
        "os.O_NOFOLLOW, 0o600)",
        "os.O_NOFOLLOW, 0o644)",
        (f"{QUARANTINE}::test_the_quarantine_says_what_is_wrong_and_is_private[threaded]",),
    ),
    Mutation(
        "Files are for their owner only",
        LIVE,
        "os.O_NOFOLLOW, 0o600)",
        "os.O_NOFOLLOW, 0o644)",
        (f"{KILLS}::test_the_live_file_is_private_and_gone_after_a_clean_end[threaded]",),
    ),
    Mutation(
        "Nothing that is stored or received is executed",
        "ferret/writers/frames.py",
        "decode: Callable[[bytes], Any] = _decoder(_decode_any)",
        "import pickle\n\ndecode: Callable[[bytes], Any] = pickle.loads",
        ("tests/security/test_no_foreign_code.py::test_no_module_can_unpickle_or_evaluate",),
    ),
    Mutation(
        "A plugin's code runs only when its name is used",
        "ferret/plugins.py",
        '        for ours in self._collect("ferret.builtin"):',
        '        self._load_entry_points()\n        for ours in self._collect("ferret.builtin"):',
        ("tests/plugins/test_plugins.py::test_a_program_that_uses_ferrets_own_imports_no_plugin[threaded]",),
    ),
    Mutation(
        "Any Python object may be a tag",
        "ferret/tags.py",
        "    except BaseException:  # noqa: BLE001 - any object may be a tag, and none may hurt the program\n"
        "        return _encode_carefully(tags)",
        "    except TypeError:\n        return _encode_carefully(tags)",
        ("tests/recording/test_tags.py::test_no_tags_whatever_raise",),
    ),
    Mutation(
        "Any Python object may be a tag",
        "ferret/tags.py",
        "    except BaseException:  # noqa: BLE001 - a hostile __str__",
        "    except ValueError:",
        ("tests/recording/test_profiler.py::test_an_exception_whose_text_fails_is_recorded_all_the_same",),
    ),
    Mutation(
        "Tags are as they were when the span ended",
        "ferret/span.py",
        "        self._tags = tags\n        self._details: ",
        "        self._tags = tags and {key: list(value) for key, value in tags.items()}\n        self._details: ",
        ("tests/recording/test_profiler.py::test_tags_are_as_they_were_at_the_end",),
    ),
    Mutation(
        "A signal handler or a finalizer that records, flushes or closes at the worst moment",
        "ferret/writers/sync.py",
        "        if not self._books.are_open_here():\n",
        "        if True:\n",
        (f"{INTERRUPTED}::test_a_span_of_a_handler_that_interrupts_a_look_into_the_books_does_not_wait_for_itself",),
    ),
    Mutation(
        "A signal handler or a finalizer that records, flushes or closes at the worst moment",
        "ferret/writers/sync.py",
        "        return self._consuming.locked() and self._consumer._is_owned()",
        "        return False",
        (f"{INTERRUPTED}::test_close_in_a_handler_that_interrupts_a_sync_delivery_leaves_the_sink_open_for_it",),
    ),
    Mutation(
        "What a signal handler interrupts is as right as without it",
        BOOKS,
        "                if this == self._looks:\n",
        "                if True:\n",
        (f"{INTERRUPTED}::test_a_look_that_was_interrupted_is_taken_again",),
    ),
    Mutation(
        "SIGTERM with the handler ends the program, also",
        "ferret/sigterm.py",
        "    block.__enter__()\n",
        "",
        (f"{INTERRUPTED}::test_sigterm_while_a_fork_waits_for_the_sink_is_answered_after_the_fork",),
    ),
    Mutation(
        "A forked child ends at SIGTERM as ever",
        "ferret/sigterm.py",
        "    leave()\n    if _closes_ferret(handler):",
        "    if _closes_ferret(handler):",
        (f"{INTERRUPTED}::test_a_forked_child_handles_sigterm_once_it_has_something_to_store",),
    ),
    Mutation(
        "A forked child goes on when its parent has closed",
        "ferret/writers/reopening.py",
        "        return (opened if isinstance(opened, Reopens) else self._inherited).reopen()",
        "        return self._inherited.reopen()",
        (f"{INTERRUPTED}::test_a_child_of_a_child_goes_on_when_both_before_it_have_closed[beaver-threaded]",),
    ),
    Mutation(
        "Processes that begin together in a new file",
        "ferret/sinks/beaver_file.py",
        "            os.link(new, path)",
        "            os.replace(new, path)",
        (f"{ROWS}::test_a_file_that_another_process_made_meanwhile_is_used_and_never_taken_away[False]",),
    ),
    Mutation(
        "A batch that a sink took, or did not, is let go of",
        "ferret/writers/failure.py",
        "found += [one.__cause__, one.__context__, ",
        "found += [",
        (f"{LETTING_GO}::test_what_a_sinks_error_came_from_holds_no_batch[sync-TellsInItsOwnWords]",),
    ),
    Mutation(
        "A batch that a sink took, or did not, is let go of",
        "ferret/writers/failure.py",
        "    seen = {id(handled)}",
        "    seen: set[int] = set()",
        (f"{LETTING_GO}::test_an_error_that_the_program_handles_while_a_sink_fails_keeps_its_traceback",),
    ),
    Mutation(
        "Under `ferret run`, every moment of a call",
        "ferret/run/callbacks.py",
        "            more.through = through\n",
        "",
        (f"{TREES}::test_who_waits_for_what_an_error_is_thrown_into_is_not_suspended_while_that_runs",),
    ),
    Mutation(
        "Under `ferret run`, every moment of a call",
        "ferret/run/callbacks.py",
        "                if known:\n                    through.append(waiting)",
        "                if known and not through:\n                    through.append(waiting)",
        (f"{TREES}::test_who_waits_for_what_an_error_is_thrown_into_is_not_suspended_while_that_runs",),
    ),
    Mutation(
        "An OTLP export has each span once",
        "ferret/export/otlp.py",
        '        name = f"({name})"',
        "        return name",
        (f"{OTLP}::test_a_tag_without_a_name_takes_no_other_s",),
    ),
    Mutation(
        "An OTLP export has each span once",
        "ferret/export/otlp.py",
        "{key: value for key, value in ours.items() if key not in keys}",
        "ours",
        (f"{OTLP}::test_a_tag_takes_the_place_of_a_fact_of_its_name",),
    ),
    Mutation(
        "A BeaverDB file whose rows a fault has put in the wrong places",
        "ferret/sinks/beaver_reader.py",
        " and key not in recent:",
        ":",
        (f"{ROWS}::test_rows_that_are_in_the_wrong_place_are_read_once_and_told_of",),
    ),
    Mutation(
        "A BeaverDB file whose rows a fault has put in the wrong places",
        "ferret/sinks/beaver_reader.py",
        "                in_order &= sign * row > sign * last\n",
        "",
        (f"{ROWS}::test_rows_that_are_in_the_wrong_place_are_read_once_and_told_of",),
    ),
    Mutation(
        "A BeaverDB file whose rows a fault has put in the wrong places",
        "ferret/sinks/beaver_reader.py",
        "                in_order &= bool(rows) and rows.pop(0)[:2] == (start, recent[-1])",
        "                rows.pop(0)",
        (f"{ROWS}::test_rows_that_are_in_the_wrong_place_are_read_once_and_told_of",),
    ),
]
