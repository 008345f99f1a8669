package definition

import (
	"strings"
	"testing"
)

func TestTemplate_ReplacesWhatNamesOneThing(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", longestSegment)
	for path, want := range map[string]string{
		"":                       "",
		"/":                      "/",
		"/orders":                "/orders",
		"/orders/":               "/orders/",
		"//orders":               "//orders",
		"orders/7":               "orders/{id}",
		"/orders/7/lines/0":      "/orders/{id}/lines/{id}",
		"/orders/7?full=1#x":     "/orders/{id}",
		"/orders#7":              "/orders",
		"/orders/1,2,3":          "/orders/{id}",
		"/orders/1,two":          "/orders/1,two",
		"/orders/1,":             "/orders/1,",
		"/photos/123.jpeg":       "/photos/{id}.jpeg",
		"/photos/123.tar.gz":     "/photos/123.tar.gz",
		"/login;jsessionid=A1/x": "/login/x",
		"/x/01234567-89ab-cdef-0123-456789ABCDEF":       "/x/{id}",
		"/x/01234567-89ab-cdef-0123-456789abcdef.json":  "/x/{id}.json",
		"/x/01234567-89ab-cdef-0123-456789abcdeg":       "/x/01234567-89ab-cdef-0123-456789abcdeg",
		"/x/507f1f77bcf86cd799439011":                   "/x/{id}", // MongoDB
		"/x/d41d8cd98f00b204e9800998ecf8427e":           "/x/{id}", // MD5
		"/x/0x52908400098527886E0F7030069857D2E4169EE7": "/x/{id}",
		"/x/deadbeefcafe":                               "/x/deadbeefcafe", // 12 digits may be a word
		"/x/01ARZ3NDEKTSV4RRFFQ69G5FAV":                 "/x/{id}",         // ULID
		"/x/01arz3ndektsv4rrffq69g5fav":                 "/x/{id}",
		"/x/01ARZ3NDEKTSV4RRFFQ69G5fav":                 "/x/01ARZ3NDEKTSV4RRFFQ69G5fav",
		"/x/81ARZ3NDEKTSV4RRFFQ69G5FAV":                 "/x/81ARZ3NDEKTSV4RRFFQ69G5FAV", // beyond the range of ULIDs
		"/x/2026-11-22":                                 "/x/{id}",
		"/x/2026-11-22T10:00:00.5+01:00":                "/x/{id}",
		"/x/2026-11-22-notes":                           "/x/2026-11-22-notes",
		"/x/-5":                                         "/x/{id}",
		"/x/-5,12.5,7":                                  "/x/{id}",
		"/x/-":                                          "/x/-",
		"/x/--5":                                        "/x/--5",
		"/at/52.5200,-13.4":                             "/at/{id}",
		"/x/12.5":                                       "/x/{id}",
		"/x/12.5.json":                                  "/x/{id}.json",
		"/x/0.125":                                      "/x/{id}",
		"/x/2.13":                                       "/x/2.13", // a version
		"/x/12.":                                        "/x/12.",
		"/x/.5":                                         "/x/.5",
		"/x/{01234567-89ab-cdef-0123-456789abcdef}":     "/x/{id}",
		"/x/%7B01234567-89ab-cdef-0123-456789abcdef%7d": "/x/{id}",
		"/x/urn:uuid:01234567-89ab-cdef-0123-456789abcdef":      "/x/{id}",
		"/x/URN:UUID:01234567-89ab-cdef-0123-456789abcdef.json": "/x/{id}.json",
		"/x/urn:isbn:0451450523":                                "/x/urn:isbn:0451450523",
		"/x/{}":                                                 "/x/{}",
		"/x/{7}":                                                "/x/{7}",
		"/x/%31%32":                                             "/x/{id}",
		"/x/4%32%2Ejson":                                        "/x/{id}.json",
		"/x/01234567%2d89ab%2Dcdef-0123-456789abcdef":           "/x/{id}",
		"/x/%6Frders":                                           "/x/%6Frders", // no id: stays as it is
		"/x/%2531":                                              "/x/%2531",    // a percent sign, and 31
		"/x/%%331":                                              "/x/%%331",
		"/x/%3":                                                 "/x/%3",
		"/x/%zz":                                                "/x/%zz",
		"/x/%31%2F2":                                            "/x/%31%2F2",
		"/pizza/1.0.0/menu":                                     "/pizza/1.0.0/menu",
		"/api/1.0/v2":                                           "/api/1.0/v2",
		"/pets/{petId}":                                         "/pets/{petId}",
		"/pets/:id/*":                                           "/pets/:id/*",
		"/users/user-42":                                        "/users/user-42",
		"/x/MyLongFileNameReport2026Final":                      "/x/MyLongFileNameReport2026Final",
		"/x/" + long:                                            "/x/" + long,
		"/x/" + long + "x":                                      "/x/{id}",
		strings.Repeat("/abcdefg", 31):                          strings.Repeat("/abcdefg", 31),
		strings.Repeat("/abcdefg", 32):                          strings.Repeat("/abcdefg", 31) + "/…",
		strings.Repeat("/7", 1_000_000):                         strings.Repeat("/{id}", 50) + "/…",
		"/ü\xff\x00":                                            "/ü\uFFFD\uFFFD",
	} {
		if got := template(path); got != want {
			t.Errorf("%.80q: got %q, want %q", path, got, want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"/orders/7?x=1", "/x/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/2026-11-22T10:00", strings.Repeat("/1.ab;x", 99),
		strings.Repeat("a", 300), "/" + strings.Repeat("ab/", 90), "\xff;\x00", "/%31/%%331/-5.25/%7b%7d/{urn:uuid:}", "/12.5.ab/%2d7;%3b", "0x0123456789abcdef,1.json",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		once := template(path)
		if twice := template(once); twice != once {
			t.Errorf("%q: its template is %q, and the template of that %q", path, once, twice)
		}
		if len(once) > longestTemplate || !storable(once) || strings.ContainsAny(once, "?#;") {
			t.Errorf("%q: the template %q (%d bytes) is none", path, once, len(once))
		}
	})
}

func BenchmarkTemplate(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		template("/shops/berlin/orders/01234567-89ab-cdef-0123-456789abcdef/lines/12")
	}
}
