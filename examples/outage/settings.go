package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// changedSettings lists the settings of the pool and of the layers that differ from the default. In
// all configurations the zero value of a field means the default.
func changedSettings(cfg pool.Config, layers middleware.Options) string {
	cfg.Name = "" // the name is not a setting
	all := append(changedFields("", reflect.ValueOf(cfg)), changedFields("", reflect.ValueOf(layers))...)
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// changedFields lists the non-zero fields of v with their values, such as "Total.Limit 900ms".
func changedFields(prefix string, v reflect.Value) (all []string) {
	for i := range v.NumField() {
		name, field := prefix+v.Type().Field(i).Name, v.Field(i)
		switch {
		case field.IsZero():
		case field.Kind() == reflect.Struct:
			all = append(all, changedFields(name+".", field)...)
		default:
			all = append(all, fmt.Sprintf("%s %v", name, field))
		}
	}
	return all
}

// settingsText describes the changed settings of the stacks. The parameter each has a text for each
// server, such as "redis: MaxSize 16".
func settingsText(each []string) string {
	return "The stacks run with the defaults of the pool and of all layers. The exceptions are sizes and limits for this load. " +
		strings.Join(each, "; ") + "."
}

func (p *play) settingsText() string {
	var each []string
	for _, s := range p.stations {
		each = append(each, s.status.Name+": "+s.pool.settings)
	}
	return settingsText(each)
}

func (r result) settingsText() string {
	var each []string
	for _, s := range r.servers {
		each = append(each, s.status.Name+": "+s.settings)
	}
	return settingsText(each)
}
