// Package definition reads what Weir counts and watches for from YAML: the
// streams with their attributes, the aggregations over them, and the alert
// rules. [Load] turns a folder of such files into a [Catalog], or into the
// list of everything that is wrong with them, each with file and line.
//
// # Files
//
// Every file of the folder whose name ends in .yaml has the same form; all
// fields are optional. A file that names a stream defines it:
//
//	stream: request              # token of the subject events.<stream>.<source>
//	description: one call that a gateway has served
//	time: requestTimestamp       # event time; omitted: the time of arrival
//	future: 24 hours             # how far ahead of arrival an event time may lie; default: all
//	past: 90 days                # how far behind it; default: all
//	attributes:                  # what gateways send
//	  requestTimestamp: {type: time, unit: ms}
//	  apiName:          {type: string, default: None}
//	  resource:         {type: string, if_empty: template(path)}
//	  path:             string
//	  responseTime:     {type: int, min: 0}
//	derived:                     # what Weir computes, in this order
//	  fast: responseTime < 100
//	aggregations:
//	  CallsPerApi:
//	    from: [request]          # default: the stream of this file
//	    where: fast
//	    group_by: [apiName]
//	    select: {calls: count(), slowest: max(responseTime)}
//	    every: seconds...years   # or a list: [seconds, hours]; see Levels
//	    retention: {seconds: 5 minutes, years: all}
//	    zone: Europe/Paris       # default UTC
//	    partition_by_id: true    # shard_id is a column of answers; default (see Options)
//	    max_groups: 5000         # per bucket and shard, or all; default 1000000
//	rules:                       # see Rules
//	  slow-call:
//	    type: event
//	    severity: 2              # 1 severe, 2 moderate, 3 mild
//	    value: responseTime
//	    above: 5000
//	    key: [apiName]           # by which alerts are told apart and kept quiet
//	    message: "{apiName} took {value} ms, more than {threshold}"
//	  often-slow:
//	    type: count
//	    severity: 3
//	    more_than: 10
//	    window: 1 hour
//	    cases:                   # variants; a simple rule has where, key and message itself
//	      by-api: {where: not fast, key: [apiName], message: "{apiName}: {value} slow calls in {window}"}
//
// Anchors (&name) and aliases (*name) share a value within a file.
//
// Types are string, int, float, bool and time; units of a time sent
// as a number are s, ms (default), us and ns. An int is computed with 64 bits;
// one that is sent lies from -(2^53-1) to 2^53-1, as far as JSON readers agree
// on integers, or its event is rejected. An attribute that an event lacks
// has its default; where none is given that is "None" for a string, as WSO2
// fills it, 0, false, or the start of 1970. "required: true" rejects the event
// instead; the event time is always required. Where a string is missing or
// empty, if_empty computes it from other attributes that are sent. An event
// whose time lies outside future and past, both measured from the time at which
// the stream took its message, is rejected. Durations are counts of seconds,
// minutes, hours, days, weeks, months (30 days) and years (365 days).
//
// Groups beyond max_groups in a bucket of a shard are folded into one whose
// string keys are "__other__" and whose other keys are 0, false or the start of
// 1970; totals stay right at every level ([weir/pkg/aggregation.Guard]). An aggregation
// that groups by no string has no cap.
//
// # Measures
//
// select has count(), and of an expression sum, avg, min, max, first, last,
// distinct_count, stddev (of the population) and quantiles: p50, p99.9 or
// percentile(x, 99.9). A quantile is, within 1 %, the value of
// the lower rank: of n values in order, numbered from 0, that is number
// ⌊p/100·(n-1)⌋, so that p50 of 1 and 9 is 1.
//
// # Levels
//
// every takes seconds, minutes, hours, days, weeks, months, quarters, years and
// multiples such as 15 minutes. A range holds its two ends, whatever they are,
// and of seconds, minutes, hours, days, months and years those between:
// 5 minutes...quarters is [5 minutes, hours, days, months, quarters]. Every
// level must be made of whole buckets of a finer one that is kept, but for the
// finest: weeks...years is refused.
//
// # Rules
//
// Rules are read when all files' streams and aggregations are known. A rule takes the events of a
// stream, by default that of its file, or of an aggregation, whose streams, where and
// group_by (as the default of key) are then its own. Its type has these figures; those in
// brackets may be left out:
//
//	event       value, above or below [stream, keep_firing_for = suppress, suppress]
//	count       more_than or fewer_than, window [stream or aggregation, for, keep_firing_for, suppress, forget]
//	threshold   aggregation, value, above or below, window [at_least, for, keep_firing_for, suppress, forget]
//	ratio       as threshold, but part and of instead of value
//	absence     window [stream or aggregation, suppress, forget]
//	change      aggregation, value, above or below, window [before = 7 days, at_least, for, keep_firing_for, suppress]
//	unseen      member [stream, at_least = 100, forget = 30 days]
//	transition  member, state, below [stream, at_least = 500, suppress, forget = 1 hour]
//	run         in_a_row, where [stream, keep_firing_for = suppress, suppress]
//	interval    window [stream, at_least = 20, lower = 10 and upper = 95 where neither is given, suppress]
//	underuse    window, at_least, lower [stream or aggregation, suppress]
//
// Suppress is 10 minutes where it is not given, for and keep_firing_for are 0, at_least is 0. Forget is a
// day, or twice window and for if that is longer, and is there only where too little is looked for.
// The bound of event and count rules may be "unset": only thresholds that are set at run time
// count then.
//
// Every rule has type, severity and message, and may have description, scope (local, global or both), key,
// details, where, labels and a stakeholder {role: publisher or subscriber, user, tenant}, whose user and tenant are
// names of the key or the details. Only event and count rules of a stream with an upper bound, without for and with a
// window of whole minutes can be local; these are both by default. Cases have where, key,
// details, message and stakeholder instead of the rule, and may have above, below,
// more_than, fewer_than, value, window, for, keep_firing_for, suppress, at_least and in_a_row of their own.
//
// The value, part and of of an aggregation's rules are made of measures (count, sum, avg, min, max),
// numbers, + - * / and parentheses. What is divided by zero, and the average, the least and the most of
// no events, have no value, and no value breaks no bound. Windows slide in steps ([weir/pkg/alert.Rule]).
//
// In messages {name} stands for a part of the key or a detail; {value}, {threshold} and {window} for figures,
// where the type has them; {unseen}, {transition}, {usual} and the name of the member for what the types
// unseen, transition and interval show.
//
// # Expressions
//
// Derived attributes, where, value and the arguments of select are expr-lang
// expressions over the attributes of the stream. An int stays an int but for
// division and powers, which give floats; a time is an int, milliseconds since
// 1970. Added are os(userAgent) and browser(userAgent), the family names of
// ua-parser, country(ip) and city(ip), English names of a GeoIP file
// ([Options]), and template(path), see below; an attribute may have the name of a function, which that name
// then hides. What depends on more than the event (now, and the functions
// that walk a map in random order) is left out, so that the same event always
// gives the same values. An expression that fails on an event, computes an
// integer that does not fit into 64 bits, or gives a value that cannot be
// stored (no number, not finite, not UTF-8), rejects it; the dead letter names
// the expression and the operands. bitshl and its like work on 64 bits, and
// drop what is shifted out.
//
// # Templates of paths
//
// template(path) is the path without query and fragment, with {id} for each
// segment that names one thing:
//
//   - a number: digits, perhaps after a minus sign, and with a point where it is
//     no version: 12.5, -5 and 0.125, but not 1.0 or 2.13;
//   - a UUID: 8-4-4-4-12 hexadecimal digits, perhaps in braces or after urn:uuid:;
//   - a hash: 16 or more hexadecimal digits, perhaps after 0x;
//   - a ULID: 26 digits of its alphabet, all in upper or all in lower case;
//   - a date: 2026-11-22, perhaps with a time as in 2026-11-22T10:00:00Z;
//   - several of these with commas between;
//   - any of these before the ending of a file, 2 to 5 letters and digits that
//     begin with a letter, which stays: {id}.json;
//   - anything longer than 64 bytes.
//
// Letters, digits and -._~ that are escaped without need (%31 for 1) count as
// what they are. Parameters of a segment (";jsessionid=…") are dropped. All else stays as it
// is: 1.0, v2, user-42, short ids in base64, which no rule tells from names. A
// template has at most 256 bytes; of longer ones the last segments are left
// out, and "/…" stands for them. The template of a template is itself.
package definition

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Options says what definitions may use from outside their files. The zero
// value is ready.
type Options struct {
	// GeoIP is the path of a MaxMind database (.mmdb) with countries and
	// cities; "" makes country() and city() answer "Unknown".
	GeoIP string
	// Dir is put before file names in problems, for instance "streams".
	Dir string
	// KeepAll ignores the retention that the files ask for: everything is kept
	// for ever, as old logs want it.
	KeepAll bool
	// NotByID is what partition_by_id is where a definition does not say: true
	// makes it false, and so leaves shard_id out of the answers.
	NotByID bool
}

// Problem is one thing that is wrong in a definition file.
type Problem struct {
	File string
	Line int // from 1; 0 where the file as a whole is meant
	Text string
}

// Error returns "file:line: text".
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Load is LoadWith without options.
func Load(fsys fs.FS) (*Catalog, error) { return LoadWith(fsys, Options{}) }

// LoadWith reads all .yaml files at the root of fsys and validates them as a
// whole. The error joins all that is wrong, one *Problem each, in the order of
// files and lines. The catalogue holds streams, aggregations and rules in the
// order of files, then as written.
func LoadWith(fsys fs.FS, options Options) (*Catalog, error) {
	functions, err := newFunctions(options.GeoIP)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	var all problems
	var documents []*document
	for _, entry := range entries {
		name := path.Join(options.Dir, entry.Name())
		switch path.Ext(entry.Name()) {
		case ".yml":
			all.add(name, 0, "only files that end in .yaml are read: rename it")
		case ".yaml":
			data, err := fs.ReadFile(fsys, entry.Name())
			if err != nil {
				return nil, fmt.Errorf("read definitions: %w", err)
			}
			documents = append(documents, readDocument(reader{file: name, problems: &all}, data))
		}
	}
	if len(documents) == 0 && len(all) == 0 {
		return nil, errors.New("read definitions: no .yaml file found")
	}
	catalog := build(documents, newLanguage(functions), options, &all)
	if err := all.join(); err != nil {
		return nil, err
	}
	if options.KeepAll {
		for _, def := range catalog.Aggregations {
			def.Retention = nil
		}
	}
	return catalog, nil
}

// problems collects what is wrong.
type problems []*Problem

func (p *problems) add(file string, line int, text string) {
	*p = append(*p, &Problem{File: file, Line: line, Text: strings.ReplaceAll(text, "\n", " ")})
}

// join returns all problems in the order of the files, or nil.
func (p *problems) join() error {
	slices.SortStableFunc(*p, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	errs := make([]error, len(*p))
	for i, problem := range *p {
		errs[i] = problem
	}
	return errors.Join(errs...)
}
