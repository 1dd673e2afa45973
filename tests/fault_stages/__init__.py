"""Stages that misbehave, as a stage of the catalogue could: in the catalogue only while a test has put them there."""
