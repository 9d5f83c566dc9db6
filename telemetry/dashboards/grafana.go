package dashboards

import "encoding/json"

// schemaVersion is the schema version of Grafana 11. Later versions migrate a dashboard on load.
const schemaVersion = 39

// model is the used part of Grafana's JSON model of a dashboard.
type model struct {
	UID           string          `json:"uid"`
	Title         string          `json:"title"`
	Description   string          `json:"description"`
	Tags          []string        `json:"tags"`
	SchemaVersion int             `json:"schemaVersion"`
	Editable      bool            `json:"editable"`
	GraphTooltip  int             `json:"graphTooltip"` // 1: one crosshair for all panels
	Refresh       string          `json:"refresh"`
	Time          timeRange       `json:"time"`
	Timezone      string          `json:"timezone"`
	Links         []dashboardLink `json:"links"`
	Templating    templating      `json:"templating"`
	Annotations   annotations     `json:"annotations"`
	Panels        []panelModel    `json:"panels"`
}

// annotations is empty. Grafana adds its own annotations.
type annotations struct {
	List []struct{} `json:"list"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// dashboardLink leads from a dashboard to others.
type dashboardLink struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Icon        string   `json:"icon"`
	Tooltip     string   `json:"tooltip"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	TargetBlank bool     `json:"targetBlank"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

// link leads from the data of a panel to anywhere.
type link struct {
	Title       string `json:"title"`
	URL         string `json:"url"`
	TargetBlank bool   `json:"targetBlank,omitempty"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"` // datasource or query
	Query      any         `json:"query"`
	Definition string      `json:"definition,omitempty"`
	Datasource *datasource `json:"datasource,omitempty"`
	Refresh    int         `json:"refresh,omitempty"` // 2: when the time range changes
	Sort       int         `json:"sort,omitempty"`    // 1: alphabetical
	Multi      bool        `json:"multi"`
	IncludeAll bool        `json:"includeAll"`
	AllValue   string      `json:"allValue,omitempty"`
	Current    *current    `json:"current,omitempty"`
}

// current is the initial value of a variable.
type current struct {
	Text  []string `json:"text"`
	Value []string `json:"value"`
}

type variableQuery struct {
	QueryType int    `json:"qryType"` // 1: values of a label
	Query     string `json:"query"`
	RefID     string `json:"refId"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panelModel struct {
	ID          int             `json:"id"`
	Type        string          `json:"type"`
	Title       string          `json:"title"`
	Description string          `json:"description,omitempty"`
	GridPos     gridPos         `json:"gridPos"`
	Collapsed   *bool           `json:"collapsed,omitempty"` // of rows
	Panels      *[]panelModel   `json:"panels,omitempty"`    // of rows: the panels that a collapsed row hides
	Datasource  *datasource     `json:"datasource,omitempty"`
	Targets     []targetModel   `json:"targets,omitempty"`
	FieldConfig *fieldConfig    `json:"fieldConfig,omitempty"`
	Options     json.RawMessage `json:"options,omitempty"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type targetModel struct {
	RefID        string      `json:"refId"`
	Datasource   *datasource `json:"datasource"`
	Expr         string      `json:"expr"`
	LegendFormat string      `json:"legendFormat"`
	Format       string      `json:"format"`
	Exemplar     bool        `json:"exemplar"`
	Instant      bool        `json:"instant"`
	Range        bool        `json:"range"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []override    `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string          `json:"unit,omitempty"`
	Min        *float64        `json:"min,omitempty"`
	Max        *float64        `json:"max,omitempty"`
	Custom     json.RawMessage `json:"custom,omitempty"`
	Color      json.RawMessage `json:"color,omitempty"`
	Mappings   json.RawMessage `json:"mappings,omitempty"`
	Thresholds *thresholds     `json:"thresholds,omitempty"`
	Links      []link          `json:"links,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // nil: from the beginning
}

type override struct {
	Matcher    matcher    `json:"matcher"`
	Properties []property `json:"properties"`
}

type matcher struct {
	ID      string `json:"id"`
	Options string `json:"options"`
}

type property struct {
	ID    string          `json:"id"`
	Value json.RawMessage `json:"value"`
}
