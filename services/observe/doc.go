// Package observe holds what Prometheus and Grafana need to watch Weir, as they run in `docker compose --profile observe up`:
//
//	prometheus/prometheus.yml   what is scraped
//	prometheus/rules.yml        alerts on Weir itself, which are not those on the traffic that it raises
//	grafana/dashboards          traffic, from the views in weir_view; pipeline, from Prometheus
//	grafana/provisioning        so that Grafana starts with both
//
// There is no code in it but tests: the rules fire when they should and are quiet when not, every question of a panel is asked of a
// database with traffic in it, and every metric that is named exists.
package observe
