package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// Settings are what of a configuration the data was made with: Services have addresses of these ranges, Pods belong to this node. They
// are kept with the data, also in a backup, and are what an `up` uses that is not told otherwise.
type Settings struct {
	ServiceCIDRs []netip.Prefix `json:"serviceCIDRs"`
	PodCIDRs     []netip.Prefix `json:"podCIDRs"`
	NodeName     string         `json:"nodeName"`
	Domain       string         `json:"domain"`
}

func (i Instance) settingsFile() string { return filepath.Join(i.api(), "settings.json") }

// Settings are those of the last start, or nil where there was none.
func (i Instance) Settings() (*Settings, error) {
	data, err := os.ReadFile(i.settingsFile())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // nobody but root starts one
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Settings{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it, and give '%s' its ranges as flags", i.settingsFile(), err, i.Command("up"))
	}
	return s, nil
}

func (i Instance) saveSettings(s Settings) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(i.settingsFile(), data)
}
