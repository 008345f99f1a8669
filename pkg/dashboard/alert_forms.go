package dashboard

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"weir/pkg/alert"
	"weir/pkg/query"
)

// mostForm is how much of a form is read, in bytes.
const mostForm = 64 << 10

// alertRoutes are what the forms of the alerts page send. Each leads back to the
// page where it was.
func (d *dashboard) alertRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /alerts/ack", d.form(d.ack))
	mux.HandleFunc("POST /alerts/silence", d.form(d.silence))
	mux.HandleFunc("POST /alerts/unsilence", d.form(d.unsilence))
}

// form does what a form of a page of ours asks for.
func (d *dashboard) form(do func(ctx context.Context, fields url.Values, by string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := query.GuardForm(r)
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, mostForm)
			if err = r.ParseForm(); err != nil {
				err = &query.Error{Status: http.StatusBadRequest, Detail: "that form is not readable"}
			}
		}
		if err == nil {
			by := r.PostForm.Get("by")
			if user, _, ok := r.BasicAuth(); ok && by == "" {
				by = user
			}
			ctx, cancel := context.WithTimeout(r.Context(), d.timeout)
			defer cancel()
			err = do(ctx, r.PostForm, by)
		}
		if err != nil {
			explained := d.Explain(r.Context(), r.URL.Path, err)
			s, _ := d.scope(r, &page{path: "/alerts"}) // of an address without parameters
			d.write(w, r, explained.Status, "message", d.frame(r, &page{path: "/alerts", title: "Alerts"}, s, message{"That was not done", explained.Detail}))
			return
		}
		back, _ := url.ParseQuery(trimQuestion(r.PostForm.Get("back"))) // what is not readable is left out
		to := url.URL{Path: "/alerts", RawQuery: back.Encode()}
		http.Redirect(w, r, to.String(), http.StatusSeeOther)
	}
}

func trimQuestion(address string) string {
	if len(address) > 0 && address[0] == '?' {
		return address[1:]
	}
	return address
}

func (d *dashboard) ack(ctx context.Context, fields url.Values, by string) error {
	_, err := query.AckAlert(ctx, d.DB, fields.Get("id"), alert.Ack{By: by, Comment: fields.Get("comment"), At: d.Now().UTC()})
	return err
}

func (d *dashboard) silence(ctx context.Context, fields url.Values, by string) error {
	long, err := time.ParseDuration(fields.Get("for"))
	if err != nil || long <= 0 {
		return &query.Error{Status: http.StatusBadRequest, Detail: "say for how long, as 2h"}
	}
	match, err := query.ParseMatch("match", fields["match"])
	if err != nil {
		return &query.Error{Status: http.StatusBadRequest, Detail: err.Error()}
	}
	now := d.Now().UTC()
	_, err = query.AddSilence(ctx, d.Catalog, d.DB, alert.Silence{
		Rule: fields.Get("rule"), Match: match, StartsAt: now, EndsAt: now.Add(long), By: by, Comment: fields.Get("comment"),
	}, now)
	return err
}

func (d *dashboard) unsilence(ctx context.Context, fields url.Values, _ string) error {
	id, err := strconv.ParseInt(fields.Get("id"), 10, 64)
	if err != nil {
		return errors.Join(&query.Error{Status: http.StatusBadRequest, Detail: "that is no silence's number"}, err)
	}
	_, err = query.EndSilence(ctx, d.DB, id, d.Now().UTC())
	return err
}
