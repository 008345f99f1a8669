package gateway

import (
	"encoding/json"
	"strings"
	"time"
)

// What an access log does not tell, in the words of the WSO2 streams.
const (
	anonymous  = "anonymous"
	apiVersion = "1.0.0"
	rootAPI    = "root"
	unknownAPI = "unknown"
	absent     = "-"
)

// accessRecord is one line of an access log.
type accessRecord struct {
	Host   string
	User   string // "" where the log has none
	Time   time.Time
	Method string // "-" where the request is no HTTP request
	Target string // request target as sent: path, absolute URL, "*", "host:port"; "-" like Method
	Status int    // 0 where the log has none
	Bytes  int64  // -1 where the log has none
	Agent  string // "" where the log has none
	// Replaced says that the line held bytes that no text can hold; they became U+FFFD.
	Replaced bool
}

// requestEvent is what an access log tells of a request; [Format] has the table.
type requestEvent struct {
	APIName             string `json:"apiName"`
	APIContext          string `json:"apiContext"`
	APIVersion          string `json:"apiVersion"`
	APIResourcePath     string `json:"apiResourcePath"`
	APIResourceTemplate string `json:"apiResourceTemplate"`
	APIMethod           string `json:"apiMethod"`
	APIHostname         string `json:"apiHostname"`
	ApplicationName     string `json:"applicationName"`
	ApplicationID       string `json:"applicationId"`
	ApplicationOwner    string `json:"applicationOwner"`
	Username            string `json:"username"`
	UserIP              string `json:"userIp"`
	UserAgent           string `json:"userAgent,omitempty"`
	RequestTimestamp    int64  `json:"requestTimestamp"`
	ResponseCode        int    `json:"responseCode"`
	ResponseSize        int64  `json:"responseSize"`
	ResponseTime        int64  `json:"responseTime"`
}

// event is the record as the JSON of a request event.
func (r accessRecord) event(source string) ([]byte, error) {
	path, api := resourceOf(r.Target), unknownAPI
	if r.Method != absent {
		api = apiNameOf(path)
	}
	user := r.User
	if user == "" {
		user = anonymous
	}
	return json.Marshal(requestEvent{
		APIName:             api,
		APIContext:          "/" + api + "/" + apiVersion,
		APIVersion:          apiVersion,
		APIResourcePath:     path,
		APIResourceTemplate: path,
		APIMethod:           r.Method,
		APIHostname:         source,
		ApplicationName:     anonymous,
		ApplicationID:       anonymous,
		ApplicationOwner:    anonymous,
		Username:            user,
		UserIP:              r.Host,
		UserAgent:           r.Agent,
		RequestTimestamp:    r.Time.UnixMilli(),
		ResponseCode:        r.Status,
		ResponseSize:        max(r.Bytes, 0),
	})
}

// resourceOf is the path of a request target: without query and fragment, and of an absolute URL
// without scheme and host. It is never empty.
func resourceOf(target string) string {
	if scheme, rest, ok := strings.Cut(target, "://"); ok && isScheme(scheme) {
		target = "/"
		if slash := strings.IndexAny(rest, "/?#"); slash >= 0 {
			target = rest[slash:]
		}
	}
	if end := strings.IndexAny(target, "?#"); end >= 0 {
		target = target[:end]
	}
	if target == "" {
		return "/"
	}
	return target
}

// isScheme reports whether s can stand before "://"; "/login?to=http" cannot.
func isScheme(s string) bool {
	for i := range len(s) {
		switch c := s[i] | 0x20; { // ASCII lower case
		case c >= 'a' && c <= 'z':
		case i > 0 && (s[i] >= '0' && s[i] <= '9' || s[i] == '+' || s[i] == '-' || s[i] == '.'):
		default:
			return false
		}
	}
	return s != ""
}

// apiNameOf is the first segment of a path that is not empty.
func apiNameOf(path string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	if first == "" || path == "*" {
		return rootAPI
	}
	return first
}

// setRequest takes the request line of an access log apart: METHOD target PROTOCOL, where HTTP/0.9 had
// no protocol, and where a client may have sent a target with spaces.
func (r *accessRecord) setRequest(line string) {
	method, target, ok := strings.Cut(line, " ")
	if last := strings.LastIndexByte(target, ' '); last >= 0 && strings.HasPrefix(target[last+1:], "HTTP/") {
		target = target[:last]
	}
	if !ok || target == "" || strings.HasPrefix(target, "HTTP/") || !isMethod(method) {
		r.Method, r.Target = absent, absent
		return
	}
	r.Method, r.Target = method, target
}

// isMethod reports whether s is a token of RFC 9110, which every method is. Bytes of another protocol
// than HTTP are not.
func isMethod(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != "" && s != absent
}
