package query_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pkg/query"
)

// Questions that wait for their turn together are asked together where they differ in a key alone. What each is answered must
// be what it is answered when it is asked alone.
func TestAsk_AnswersManyAtOnceAsEachAlone(t *testing.T) {
	t.Parallel()
	def := calls(time.UTC)
	db, raw := database(t, def)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	var all []call
	for i := range int64(2_000) {
		all = append(all, call{
			at: start + i*7_000_000, seq: i, shard: fmt.Sprint("s", i%2), api: fmt.Sprint("api-", i*i%7), code: 200 + i%3, cache: i%5 == 0,
			bytes: i, load: float64(i % 11), label: fmt.Sprint("l", i),
		})
	}
	insert(t, raw, def, pack(def, all, 50))
	shapes := []string{
		`group_by=bucket&select=bucket,hits,bytes,avgBytes&where=apiName=='%s'`,
		`group_by=code&select=code,hits,label,seenAt&where='%s'==apiName and cached`,
		`group_by=code,apiName&select=apiName,code,sum(hits)&where=code>200 and apiName=='%s' and not cached&order_by=code desc`,
		`group_by=&select=sum(hits),max(most)&where=apiName=='%s'`,
		`group_by=bucket&select=bucket,hits&where=apiName=='%s'&order_by=hits desc,bucket&limit=3&offset=2`,
		`group_by=code&select=code,sum(hits)&having=sum(hits)>90&where=apiName=='%s' or code==201`,
	}
	var asked []string
	for i := range 9 { // api-7, api-8 and what i*i%7 never is have nothing
		for _, shape := range shapes {
			asked = append(asked, strings.ReplaceAll("within=2026-11-01,2026-11-03&per=hours&"+fmt.Sprintf(shape, fmt.Sprint("api-", i)), "&", "\n"))
		}
	}
	want := make([]*query.Answer, len(asked))
	for i, parameters := range asked {
		want[i] = ask(t, db, def, parameters)
	}
	before := db.Questions()
	var askers sync.WaitGroup
	for range 3 {
		for i, parameters := range asked {
			askers.Go(func() {
				got, err := tryAsk(t, db, def, parameters)
				if err != nil {
					t.Errorf("%s: %v", parameters, err)
					return
				}
				if len(got.Rows) != len(want[i].Rows) {
					t.Errorf("%s: %d rows, alone %d", parameters, len(got.Rows), len(want[i].Rows))
					return
				}
				for n, row := range got.Rows {
					for c := range row {
						if !sameCell(row[c], want[i].Rows[n][c]) {
							t.Errorf("%s: row %d is %v, alone %v", parameters, n, row, want[i].Rows[n])
							return
						}
					}
				}
			})
		}
	}
	askers.Wait()
	after := db.Questions()
	if n := after.Asked - before.Asked; n > int64(3*len(asked)/2) || n+after.Shared-before.Shared != int64(3*len(asked)) {
		t.Errorf("Postgres was asked %d times, and %d questions shared, of %d", n, after.Shared-before.Shared, 3*len(asked))
	}
	if len(want[0].Rows) == 0 || len(want[4].Rows) != 2 {
		t.Errorf("the test asks for nothing: %v %v", want[0].Rows, want[4].Rows)
	}
}
