package query_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"weir/pkg/audit"
	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/streams"
)

// described is the document as JSON, with what tests need of it.
type described struct {
	root     map[string]any
	compiler *jsonschema.Compiler
}

// document reads the document that a server serves. Objects may have no members but
// those that are described, unless it says otherwise.
func document(t *testing.T, text string) described {
	t.Helper()
	root, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	closed(root)
	d := described{root.(map[string]any), jsonschema.NewCompiler()}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", root); err != nil {
		t.Fatal(err)
	}
	return d
}

func closed(node any) {
	switch node := node.(type) {
	case map[string]any:
		_, listed := node["properties"].(map[string]any)
		if _, said := node["additionalProperties"]; listed && !said && node["type"] == "object" {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			closed(child)
		}
	case []any:
		for _, child := range node {
			closed(child)
		}
	}
}

// at returns what is at a path of the document, following references.
func (d described) at(path ...string) (found any, pointer string) {
	found = d.root
	for _, name := range path {
		object, _ := found.(map[string]any)
		found = object[name]
		pointer += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
		if object, _ := found.(map[string]any); object != nil && object["$ref"] != nil {
			pointer = strings.TrimPrefix(fmt.Sprint(object["$ref"]), "#")
			found, _ = d.at(strings.Split(pointer, "/")[1:]...)
		}
	}
	return found, pointer
}

// operations lists the methods of each path.
func (d described) operations() map[string][]string {
	all := map[string][]string{}
	paths, _ := d.at("paths")
	for path, item := range paths.(map[string]any) {
		for method := range item.(map[string]any) {
			all[path] = append(all[path], strings.ToUpper(method))
		}
		slices.Sort(all[path])
	}
	return all
}

// parameters lists the names of an operation's parameters in the address.
func (d described) parameters(t *testing.T, path, method string) (names []string) {
	t.Helper()
	list, _ := d.at("paths", path, strings.ToLower(method), "parameters")
	given, _ := list.([]any)
	for _, p := range given {
		parameter := p.(map[string]any)
		if reference, ok := parameter["$ref"].(string); ok {
			found, _ := d.at(strings.Split(reference, "/")[1:]...)
			parameter = found.(map[string]any)
		}
		if parameter["description"] == nil || parameter["schema"] == nil {
			t.Errorf("%s %s: %v is not described", method, path, parameter["name"])
		}
		if parameter["in"] == "query" {
			names = append(names, parameter["name"].(string))
		}
	}
	slices.Sort(names)
	return names
}

func TestOpenAPI_HasEveryRoute(t *testing.T) {
	t.Parallel()
	d := document(t, string(query.OpenAPI()))
	served := map[string][]string{}
	for pattern, methods := range query.Routes() {
		served[strings.TrimSuffix(pattern, "{$}")] = methods
	}
	delete(served, "/") // the dashboard's, or nothing
	if got := d.operations(); !maps.EqualFunc(got, served, slices.Equal) {
		t.Errorf("described are\n%v\nserved are\n%v", got, served)
	}
	if text := string(query.OpenAPI()); strings.Contains(text, ":null") {
		t.Errorf("a comma has cut a text: %s", text[max(0, strings.Index(text, ":null")-100):])
	}
	ids := map[any]bool{}
	for path, methods := range d.operations() {
		for _, method := range methods {
			id, _ := d.at("paths", path, strings.ToLower(method), "operationId")
			summary, _ := d.at("paths", path, strings.ToLower(method), "summary")
			if id == nil || ids[id] || summary == nil {
				t.Errorf("%s %s: operationId %v, summary %v", method, path, id, summary)
			}
			ids[id] = true
		}
	}
}

// What a handler does not know it refuses, and lists what it knows: that is what is
// described.
func TestOpenAPI_HasTheParametersThatAreTaken(t *testing.T) {
	t.Parallel()
	base := asked(t, nil)
	d := document(t, string(query.OpenAPI()))
	list := regexp.MustCompile(`(?:there are: |a question has )([a-z_, ]+)`)
	for path, methods := range d.operations() {
		for _, method := range methods {
			address := base + strings.NewReplacer("{name}", "Calls", "{id}", "1").Replace(path)
			got := request(t, method, address+"?zz=1", "{}")
			found := list.FindStringSubmatch(got.body)
			if got.status != http.StatusBadRequest || found == nil || !strings.Contains(got.body, `there is no parameter \"zz\"`) {
				t.Errorf("%s %s?zz=1: got %d %s, want that there is no such parameter", method, path, got.status, got.body)
				continue
			}
			taken := strings.Split(strings.TrimSpace(found[1]), ", ")
			taken = slices.DeleteFunc(taken, func(name string) bool { return name == "none other" })
			for i := range taken {
				taken[i], _, _ = strings.Cut(taken[i], " ")
			}
			if got := request(t, method, address+"?format=zz", "{}"); strings.Contains(got.body, "format: it is one of") {
				taken = append(taken, "format")
			}
			slices.Sort(taken)
			if described := d.parameters(t, path, method); !slices.Equal(described, taken) {
				t.Errorf("%s %s: described are %q, taken are %q", method, path, described, taken)
			}
		}
	}
}

// full is an API that has some of everything.
func full(t *testing.T) string {
	t.Helper()
	catalog, err := definition.Load(streams.Files)
	if err != nil {
		t.Fatal(err)
	}
	def := calls(time.UTC)
	db, raw := database(t, def, catalog.Aggregation("APIM_ReqCountAgg"))
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC).UnixMicro()
	insert(t, raw, def, pack(def, []call{{at: at, seq: 1, shard: "a", api: "x", bytes: 3, label: "l"}}, 1))
	exec(t, raw, `INSERT INTO weir.alert (id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, shard_id)
		SELECT 'id' || i, 'tier-crossing', '', CASE i WHEN 1 THEN 'local' ELSE 'global' END, 'firing', '{"apiName":"Shop"}', 2, 'm', i, 1, '2026-01-01'::timestamptz + i * interval '1 s', 'w1' FROM generate_series(1, 3) i`)
	exec(t, raw, `INSERT INTO weir.alert (id, firing_id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, resolved_at, shard_id)
		VALUES ('id4', 'id3', 'tier-crossing', '', 'global', 'resolved', '{"apiName":"Shop"}', 2, 'm', 3, 1, '2026-01-01Z', '2026-01-02Z', '')`)
	exec(t, raw, `INSERT INTO weir.alert (id, rule, rule_case, scope, state, key, severity, message, value, threshold, fired_at, shard_id)
		VALUES ('id5', 'api-health', 'error', 'global', 'firing', '{"apiName":"Shop","apiVersion":"1"}', 1, 'm', 3, 1, now(), '')`)
	exec(t, raw, `INSERT INTO weir.notification (alert_id, notifier, state, sends, sent_at, attempts, failing_since, last_error) VALUES ('id3', 'mail', 'sent', 1, now(), 2, now(), 'refused'), ('id2', 'hook', 'waiting', 0, NULL, 0, NULL, '')`)
	exec(t, raw, `INSERT INTO weir.dead_letter (reason, source, subject, msg_id, sequence, event_offset, stored_at, shard_id, payload, payload_size)
		VALUES ('bad time', 'gw', 'events.request.gw', 'gw/e/1', 5, 2, '2026-01-01Z', 'w1', '{"a":"<"}', 9), ('not JSON', 'gw', 'events.request.gw', '', 6, -1, '2026-01-01Z', 'w1', '\xff', 1)`)
	exec(t, raw, `INSERT INTO weir.shard (shard_id, owner, events, last_batch, retired_at) VALUES ('a', 'host', 7, 3, '2026-01-01Z'), ('b', 'host', 0, 0, NULL)`)
	exec(t, raw, `INSERT INTO weir.source (source, epoch, next, acked, incarnation, sequence, told_at) VALUES ('gw', 'e', 5, 4, 'i', 9, now())`)
	catalog.Aggregations = append(slices.Clone(catalog.Aggregations), def)
	return serve(t, db, def, func(s *query.Server) {
		s.Catalog = catalog
		s.Audit = func(context.Context) (*audit.Report, error) {
			return &audit.Report{At: time.Now(), Drill: audit.Drill{At: new(time.Now())}, Findings: []audit.Finding{{ID: 1, Kind: "hole", Level: "hours"}}, Sources: []audit.Source{{Ranges: "1-2"}}}, nil
		}
	})
}

// Every answer is as the document says, and every answer that it promises was seen.
func TestOpenAPI_DescribesTheAnswers(t *testing.T) {
	t.Parallel()
	base := full(t)
	d := document(t, request(t, http.MethodGet, base+"/openapi.json", "").body)
	const question = "/api/v1/aggregations/Calls?within=2026-11-20,2026-11-21&per=hours"
	seen := map[string]bool{}
	for _, r := range []struct {
		method, address, body, header string
		status                        int
	}{
		{"GET", "/api/v1/", "", "", 200},
		{"GET", "/openapi.json", "", "", 200},
		{"GET", "/openapi.json", "", "If-None-Match: *", 304},
		{"GET", "/api/v1/catalogue", "", "", 200},
		{"GET", "/api/v1/catalogue", "", "If-None-Match: *", 304},
		{"GET", "/api/v1/aggregations", "", "", 200},
		{"GET", "/api/v1/aggregations", "", "If-None-Match: *", 304},
		{"GET", "/api/v1/aggregations/Calls", "", "", 200},
		{"GET", question, "", "", 200},
		{"GET", question, "", "If-None-Match: *", 304},
		{"GET", question + "&format=csv", "", "", 200},
		{"GET", question + "&format=ndjson", "", "", 200},
		{"GET", question + "&select=hits/0,label,cached,bucket", "", "", 200},
		{"GET", question + "&limit=x", "", "", 400},
		{"GET", question, "", "Accept: text/html", 406},
		{"POST", "/api/v1/questions", `{"aggregation": "Calls", "within": "2026-11-22,2026-11-23", "per": "hours"}`, "", 200},
		{"POST", "/api/v1/questions?format=csv", `{"aggregation": "Calls", "within": "2026-11-22,2026-11-23", "per": "hours"}`, "", 200},
		{"POST", "/api/v1/questions?format=ndjson", `{"aggregation": "Calls", "within": "2026-11-22,2026-11-23", "per": "hours"}`, "", 200},
		{"POST", "/api/v1/questions", `{}`, "", 400},
		{"POST", "/api/v1/questions", `{}`, "Content-Type: text/plain", 415},
		{"POST", "/api/v1/questions", `{}`, "Sec-Fetch-Site: cross-site", 403},
		{"PUT", "/api/v1/questions", `{}`, "", 405},
		{"GET", "/api/v1/alerts", "", "", 200},
		{"GET", "/api/v1/alerts?rule=tier-crossing&scope=global&key=apiName=Shop&severity=2&state=all&since=2025-01-01&until=2027-01-01&limit=1", "", "", 200},
		{"GET", "/api/v1/alerts?since=2027-01-01", "", "", 200},
		{"GET", "/api/v1/alerts?format=csv", "", "", 200},
		{"GET", "/api/v1/alerts", "", "Accept: application/x-ndjson", 200},
		{"POST", "/api/v1/alerts/id3/ack", "example", "", 200},
		{"POST", "/api/v1/silences", "example", "", 201},
		{"GET", "/api/v1/alerts/id3", "", "", 200},
		{"GET", "/api/v1/alerts/id4", "", "", 200},
		{"GET", "/api/v1/alerts/zz", "", "", 404},
		{"HEAD", "/api/v1/alerts/stream", "", "", 200},
		{"GET", "/api/v1/silences?state=all", "", "", 200},
		{"DELETE", "/api/v1/silences/1", "", "", 200},
		{"DELETE", "/api/v1/silences/1", "", "", 404},
		{"GET", "/api/v1/availability", "", "", 200},
		{"PUT", "/api/v1/thresholds", "example", "", 200},
		{"GET", "/api/v1/thresholds", "", "", 200},
		{"DELETE", "/api/v1/thresholds?rule=abnormal-response-time&api=pizza", "", "", 200},
		{"GET", "/api/v1/deadletters", "", "", 200},
		{"GET", "/api/v1/deadletters?format=csv", "", "", 200},
		{"GET", "/api/v1/deadletters?format=ndjson", "", "", 200},
		{"GET", "/api/v1/deadletters/1", "", "", 200},
		{"GET", "/api/v1/shards", "", "", 200},
		{"GET", "/api/v1/sources", "", "", 200},
		{"GET", "/api/v1/audit", "", "", 200},
	} {
		path, method := d.pathOf(t, r.address), strings.ToLower(strings.Replace(r.method, "HEAD", "GET", 1))
		if r.body == "example" {
			example, _ := d.at("paths", path, method, "requestBody", "content", "application/json", "example")
			r.body = jsonOf(t, example)
		}
		if r.status/100 == 2 && r.body != "" {
			d.validate(t, r.method+" "+path+", what is sent", r.body, "paths", path, method, "requestBody", "content", "application/json", "schema")
		}
		headers := []string{}
		if r.header != "" {
			headers = append(headers, r.header)
		}
		got := request(t, r.method, base+r.address, r.body, headers...)
		what := fmt.Sprintf("%s %s", r.method, r.address)
		if got.status != r.status {
			t.Errorf("%s: got %d %s, want %d", what, got.status, got.body, r.status)
			continue
		}
		for _, key := range d.check(t, what, path, method, got) {
			seen[key] = true
		}
	}
	for _, key := range d.promised() {
		if !seen[key] {
			t.Errorf("%s is described, and was not seen", key)
		}
	}
}

// pathOf finds the path of an address in the document.
func (d described) pathOf(t *testing.T, address string) string {
	t.Helper()
	address, _, _ = strings.Cut(address, "?")
	if d.operations()[address] != nil {
		return address
	}
	for path := range d.operations() {
		if regexp.MustCompile("^" + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, `[^/]+`) + "$").MatchString(address) {
			return path
		}
	}
	t.Fatalf("%s is not described", address)
	return ""
}

// check compares an answer with what is described, and returns what of that was seen.
func (d described) check(t *testing.T, what, path, method string, got answered) (seen []string) {
	t.Helper()
	status := fmt.Sprint(got.status)
	if response, _ := d.at("paths", path, method, "responses", status); response == nil {
		status = "default"
		if got.status < 400 {
			t.Errorf("%s: %d is not described", what, got.status)
		}
		if d.operations()[path] == nil || got.status == http.StatusMethodNotAllowed {
			method = strings.ToLower(d.operations()[path][0])
		}
	}
	kind, _, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	content, _ := d.at("paths", path, method, "responses", status, "content", kind)
	key := strings.Join([]string{method, path, status, kind}, " ")
	if got.status == http.StatusNotModified {
		if got.body != "" || got.header.Get("ETag") == "" {
			t.Errorf("%s: 304 with %q and ETag %q", what, got.body, got.header.Get("ETag"))
		}
		return []string{key}
	}
	if content == nil {
		t.Errorf("%s: %d %s is not described", what, got.status, kind)
	}
	headers, _ := d.at("paths", path, method, "responses", status, "headers")
	named, _ := headers.(map[string]any)
	for _, name := range []string{query.HeaderCompleteThrough, "ETag", "Content-Disposition", "Location"} {
		if got.header.Get(name) != "" && named[name] == nil {
			t.Errorf("%s: header %s is not described", what, name)
		}
		if got.header.Get(name) != "" {
			seen = append(seen, strings.Join([]string{method, path, status, name}, " "))
		}
	}
	if strings.HasSuffix(kind, "json") && kind != "application/x-ndjson" {
		d.validate(t, what, got.body, "paths", path, method, "responses", status, "content", kind, "schema")
	}
	return append(seen, key)
}

// promised lists all answers and their headers that are not errors.
func (d described) promised() (keys []string) {
	for path, methods := range d.operations() {
		for _, method := range methods {
			method = strings.ToLower(method)
			all, _ := d.at("paths", path, method, "responses")
			for status := range all.(map[string]any) {
				if status == "default" {
					continue
				}
				for _, part := range []string{"content", "headers"} {
					parts, _ := d.at("paths", path, method, "responses", status, part)
					named, _ := parts.(map[string]any)
					for name := range named {
						keys = append(keys, strings.Join([]string{method, path, status, name}, " "))
					}
				}
				if status == "304" {
					keys = append(keys, strings.Join([]string{method, path, status, ""}, " "))
				}
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// validate compares JSON with the schema at a path of the document.
func (d described) validate(t *testing.T, what, body string, path ...string) {
	t.Helper()
	_, pointer := d.at(path...)
	schema, err := d.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", what, err, body)
	}
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
